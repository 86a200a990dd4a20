import { describe, expect, it } from "vitest";
import type { HostFinding } from "@/api/types";
import { byHost, hindering, hostsOf, tolerated } from "@/format/hosts";

const finding = (device_id: string, name: string, level: "error" | "warning"): HostFinding => ({
  device_id,
  host: `host-of-${device_id}`,
  name,
  level,
  accepted: false,
  code: `clusters.${name}`,
  detail: name,
  remedy: "",
  data: {},
});

const check = {
  findings: [
    finding("b", "swap_on", "error"),
    finding("a", "few_cores", "warning"),
    finding("b", "few_cores", "warning"),
  ],
};

describe("findings of a check", () => {
  it("stand at every host that was asked for, in its order", () => {
    const hosts = byHost(check, [
      { id: "a", name: "A" },
      { id: "c", name: "C" },
      { id: "b", name: "B" },
    ]);
    expect(hosts.map((each) => [each.name, each.findings.map((one) => one.name)])).toEqual([
      ["A", ["few_cores"]],
      ["C", []],
      ["B", ["swap_on", "few_cores"]],
    ]);
  });

  it("of a host that was not asked for come last: a control plane that another is to join", () => {
    const there = { ...finding("c", "firewall_closed", "warning"), host: "cp-1" };
    const hosts = byHost({ findings: [there, ...check.findings.slice(1, 2)] }, [{ id: "a", name: "A" }]);
    expect(hosts.map((each) => each.device_id)).toEqual(["a", "c"]);
    expect(hosts[1]).toEqual({ device_id: "c", name: "cp-1", findings: [there] });
  });

  it("hinder until their warnings are accepted; errors cannot be", () => {
    expect(hindering(check, [])).toHaveLength(3);
    expect(hindering(check, ["few_cores"]).map((each) => each.name)).toEqual(["swap_on"]);
    expect(hindering(check, ["few_cores", "swap_on"]).map((each) => each.name)).toEqual(["swap_on"]);
  });
});

describe("accepting", () => {
  it("keeps what was said and takes up what the cluster accepts of later hosts", () => {
    const [error, warning] = check.findings;
    const known = { findings: [error, { ...warning, accepted: true }, { ...warning, accepted: true }] };
    expect(tolerated(known as typeof check, ["host_key_unknown"])).toEqual([
      "host_key_unknown",
      "few_cores",
    ]);
    expect(tolerated(check, [])).toEqual([]);
  });
});

describe("hosts of an operation", () => {
  it("have stage, ratio and the error that put them out", () => {
    const hosts = hostsOf({
      hosts: {
        "dev-1": { name: "edge-1", stage: "preparing", ratio: 0.4 },
        "dev-2": {
          name: "edge-2",
          stage: "failed",
          error: { code: "clusters.x", detail: "No disk", remedy: "Free some", data: { host: "edge-2" } },
        },
      },
    });
    expect(hosts[0]).toEqual({ device_id: "dev-1", name: "edge-1", stage: "preparing", ratio: 0.4, error: null });
    expect(hosts[1]?.error).toEqual({
      code: "clusters.x",
      detail: "No disk",
      remedy: "Free some",
      data: { host: "edge-2" },
    });
  });

  it.each([{}, { hosts: null }, { hosts: [] }, { hosts: "x" }])("are none in %j", (result) => {
    expect(hostsOf(result)).toEqual([]);
  });

  it("bear what is not as expected", () => {
    expect(hostsOf({ hosts: { d: null, e: { error: "x" } } })).toEqual([
      { device_id: "d", name: "d", stage: "", ratio: null, error: null },
      { device_id: "e", name: "e", stage: "", ratio: null, error: { code: "", detail: "", remedy: "", data: {} } },
    ]);
  });
});
