"""What a cluster leaves on hosts is removed, and the comparison with before says so."""

from lab import leftovers

from .hosting import options, work


async def test_an_earlier_clusters_leftovers_go_and_what_is_others_stays(bare_host, reach, bundle):
    await bare_host.shell("echo keep > /etc/keep; ip link add mine0 type bridge")
    async with await reach.shell(bare_host) as shell:
        before = await work(bundle).snapshot(shell)
        await leftovers.of_a_cluster(bare_host)
        assert (await work(bundle).report(shell, "x", "worker")).facts["leftovers"]
        await work(bundle).clean(shell, log=print)
        assert (await work(bundle).report(shell, "x", "worker")).facts["leftovers"] == []
        after = work(bundle).differences(before, await work(bundle).snapshot(shell))
    # The user's own kubeconfig is the user's; rules cannot be seen here: no tool is there.
    assert [one for one in after if ".kube" not in one["name"]] == []
    assert await bare_host.holds("test -d /sys/class/net/mine0 -a -f /etc/keep")


async def test_leftovers_are_removed_with_consent_before_preparing(bare_host, reach, bundle):
    await leftovers.of_a_cluster(bare_host)
    async with await reach.shell(bare_host) as shell:
        before = await work(bundle).snapshot(shell)
        await work(bundle).prepare(
            shell,
            "worker",
            options(clean_leftovers=True),
            bundle.kubernetes,
            log=print,
            progress=lambda ratio: None,
        )
        assert await bare_host.holds("! test -e /var/lib/kubelet/pki")
        await work(bundle).clean(shell, log=print)
        assert work(bundle).differences(before, await work(bundle).snapshot(shell)) == []
