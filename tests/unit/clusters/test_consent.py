"""Whose word counts for which host."""

from haechi.domains.clusters.consent import LASTING, NONE, Consent, options_for
from haechi.domains.clusters.host import findings
from haechi.domains.clusters.model import FormOptions

FORMED = FormOptions(
    pod_cidr="10.200.0.0/16",
    accept=["host_key_unknown", "other_runtime", "memory_scarce", "disk_nearly_full"],
    clean_leftovers=True,
)


def test_what_lasts_are_warnings_that_exist():
    known = [one for one in vars(findings).values() if isinstance(one, type)]
    warnings = {
        one.code.rpartition(".")[2]
        for one in known
        if issubclass(one, findings.Finding) and one.level == "warning"
    }
    assert warnings >= LASTING


def test_of_forming_only_what_is_merely_tolerated_counts_later():
    later = NONE.over(FORMED)
    assert later.accept == ["memory_scarce", "disk_nearly_full"]
    assert not later.clean_leftovers
    assert later.pod_cidr == FORMED.pod_cidr, "all else is the cluster's"


def test_what_is_said_now_counts_beside_it():
    later = Consent(["other_runtime", "memory_scarce"], clean_leftovers=True).over(FORMED)
    assert later.accept == ["other_runtime", "memory_scarce", "disk_nearly_full"]
    assert later.clean_leftovers


def test_an_operation_has_its_own_and_an_older_one_the_clusters():
    consent = Consent(["other_runtime"])
    assert options_for(consent.as_ctx(), FORMED) == consent.over(FORMED)
    assert options_for({"device_ids": ["dev-a"]}, FORMED) == FORMED


def test_forming_has_all_that_it_was_given():
    assert options_for(Consent.of(FORMED).as_ctx(), FORMED) == FORMED
