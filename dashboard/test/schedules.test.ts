import { describe, expect, it } from "vitest";
import { cronOf, type Repeat, repeatOf } from "@/format/cron";
import { actionOf, argumentsOf } from "@/format/schedule";
import { fromWallClock, toWallClock } from "@/format/zone";

describe("cron", () => {
  it.each<[Repeat, string]>([
    [{ every: "hour", minute: 5 }, "5 * * * *"],
    [{ every: "day", time: "03:30" }, "30 3 * * *"],
    [{ every: "workday", time: "22:05" }, "5 22 * * mon-fri"],
    [{ every: "week", day: "sun", time: "00:00" }, "0 0 * * sun"],
    [{ every: "month", date: 31, time: "12:00" }, "0 12 31 * *"],
    [{ every: "cron", cron: "*/5 * * * *" }, "*/5 * * * *"],
  ])("%j is %s and back", (repeat, cron) => {
    expect(cronOf(repeat)).toBe(cron);
    expect(repeatOf(cron)).toEqual(repeat);
  });

  it.each([
    ["0 3 * * 1-5", { every: "workday", time: "03:00" }],
    ["0 3 * * 7", { every: "week", day: "sun", time: "03:00" }],
    ["0 3 * * MON", { every: "week", day: "mon", time: "03:00" }],
  ])("understands %s as crontabs write it", (cron, repeat) => {
    expect(repeatOf(cron)).toEqual(repeat);
  });

  it.each(["60 * * * *", "0 24 * * *", "0 3 32 * *", "0 3 0 * *", "0 3 1 * mon", "0 * 1 * *", "x", "", "0 3 * 2 *", "0 3 * * constructor"])(
    "leaves %s to the person who wrote it",
    (cron) => expect(repeatOf(cron)).toEqual({ every: "cron", cron }),
  );
});

describe("wall clock of the site", () => {
  it.each([
    ["2026-11-30T03:00", "Asia/Seoul", "2026-11-29T18:00:00.000Z"],
    ["2026-07-01T12:00", "Europe/Berlin", "2026-07-01T10:00:00.000Z"],
    ["2026-12-01T12:00", "Europe/Berlin", "2026-12-01T11:00:00.000Z"],
    ["2026-10-25T04:00", "Europe/Berlin", "2026-10-25T03:00:00.000Z"],
    ["2026-01-01T00:00", "America/New_York", "2026-01-01T05:00:00.000Z"],
  ])("%s in %s is %s and back", (text, zone, at) => {
    expect(fromWallClock(text, zone)).toBe(at);
    expect(toWallClock(at, zone)).toBe(text);
  });

  it.each(["", "tomorrow", "2026-13-01T00:00"])("%j is no time", (text) => {
    expect(fromWallClock(text, "Asia/Seoul")).toBeNull();
  });
});

describe("what a schedule does", () => {
  const saved = {
    version_id: "ver-1",
    device_ids: ["dev-1"],
    group_id: null,
    cluster_id: "clu-1",
    control_planes: true,
    wishes: { strategy: "overlap", environment: { KEY: "***" }, allow: [], assign: true, fps: 5, stream: "sub", cpu: 1.5, memory_bytes: null },
  };

  it("goes back as it came, without the hidden values", () => {
    const draft = argumentsOf(saved);
    expect(draft.environment).toEqual(["KEY"]);
    expect(actionOf("deploy_package", draft)).toEqual({
      type: "deploy_package",
      version_id: "ver-1",
      device_ids: ["dev-1"],
      group_id: null,
      cluster_id: "clu-1",
      control_planes: true,
      strategy: "overlap",
      allow: [],
      cameras: { assign: true, fps: 5, stream: "sub" },
      resources: { cpu: 1.5 },
    });
  });

  it("asks for no more than its kind takes", () => {
    const draft = argumentsOf({ ...saved, package_id: "pkg-1" });
    expect(actionOf("back_up_cluster", draft)).toEqual({ type: "back_up_cluster", cluster_id: "clu-1" });
    expect(Object.keys(actionOf("remove_package", draft)).sort()).toEqual([
      "cluster_id", "control_planes", "device_ids", "group_id", "package_id", "type",
    ]);
  });

  it("begins empty", () => {
    expect(argumentsOf({}).targets).toEqual({ device_ids: [], group_id: null, cluster_id: null, control_planes: false });
  });
});
