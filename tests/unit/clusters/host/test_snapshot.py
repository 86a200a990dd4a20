"""The proof: what counts as a difference, and what does not."""

from haechi.domains.clusters.host.snapshot import differences, parse

BEFORE = """\
package\tbash\tii 5.2
file\t/etc/hosts\tf 644 0:0
content\t/etc/hosts\tabc
sysctl\tkernel.panic\t0
interface\teth0\tthere
service\tkubelet\tinactive
"""


def changed(after: str, before: str = BEFORE) -> list[tuple]:
    found = differences(parse(before), parse(after))
    return [(one["kind"], one["name"], one["before"], one["after"]) for one in found]


def test_the_same_is_no_difference():
    assert changed(BEFORE) == []
    assert changed("".join(reversed(BEFORE.splitlines(keepends=True)))) == []


def test_what_came_what_went_and_what_changed():
    after = BEFORE.replace("abc", "xyz").replace("package\tbash\tii 5.2\n", "")
    after += "interface\tcni0\tthere\n"
    assert changed(after) == [
        ("content", "/etc/hosts", "abc", "xyz"),
        ("interface", "cni0", None, "there"),
        ("package", "bash", "ii 5.2", None),
    ]


def test_leftovers_that_were_removed_with_consent_are_no_damage():
    before = BEFORE + "interface\tcni0\tthere\nfile\t/etc/kubernetes/admin.conf\tf 600 0:0\n"
    assert changed(BEFORE, before) == []
    # Coming is another matter.
    assert len(changed(before, BEFORE)) == 2
    # So is what only looks like it.
    assert changed(BEFORE, BEFORE + "interface\tbr-cni0\tthere\n")


def test_rules_can_only_be_compared_where_a_tool_was_there_before():
    mine, theirs = "rule\tiptables-save *nat -A MINE -j x\tthere\n", "tool\tiptables-save\tthere\n"
    kube = "rule\tiptables-save *nat -A KUBE-SERVICES\tthere\n"
    assert changed(BEFORE + mine) == []
    assert changed(BEFORE + kube), "a cluster's own rule is told in any case"
    assert changed(BEFORE + theirs + mine, BEFORE + theirs)


def test_an_unknown_service_that_became_inactive_again():
    assert changed(BEFORE.replace("inactive", ""), BEFORE) == []
    assert changed(BEFORE.replace("inactive", "failed"), BEFORE)


def test_units_as_an_earlier_release_told_them_are_not_held_against_a_host():
    before = {"unit": {"ssh.service": "enabled"}, "file": {"/etc/x": "f 644"}}
    after = {"unit_file": {"/usr/lib/systemd/system/ssh.service": "there"}, "file": {}}
    assert [one["kind"] for one in differences(before, after)] == ["file"]
    later = {"unit_file": {}, "file": {}}
    assert [one["kind"] for one in differences(after, later)] == ["unit_file"]


AT = """\
address\teth0 192.0.2.{0}/24\tthere
route\tdefault via 192.0.2.1 dev eth0 proto dhcp src 192.0.2.{0} metric 100\tthere
route\t192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.{0}\tthere
"""


def test_another_address_from_the_sites_dhcp_is_nobodys_damage():
    before = BEFORE + AT.format(7)
    assert changed(BEFORE + AT.format(8), before) == []
    # What a cluster brings is, on interfaces of its own and as ways through the host's.
    vtep = "interface\tflannel.1\tthere\naddress\tflannel.1 10.244.0.0/32\tthere\n"
    way = "route\t10.244.1.0/24 via 192.0.2.9 dev eth0\tthere\n"
    assert [one[:2] for one in changed(before + vtep + way, before)] == [
        ("address", "flannel.1 10.244.0.0/32"),
        ("interface", "flannel.1"),
        ("route", "10.244.1.0/24 via 192.0.2.9 dev eth0"),
    ]
