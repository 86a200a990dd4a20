"""haechi: an on-premises platform for wireless edge CCTV."""

__version__ = "0.1.0"
