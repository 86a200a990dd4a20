"""Who changed what and when. The lowest domain: it knows none of the subjects it records."""
