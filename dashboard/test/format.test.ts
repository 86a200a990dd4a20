import { describe, expect, it } from "vitest";
import type { Deployment } from "@/api/types";
import {
  boxColor,
  boxLabel,
  closest,
  contain,
  countClasses,
  momentOf,
  remember,
  seenOf,
} from "@/format/boxes";
import { standing } from "@/format/deployment";
import { parseEnvironment } from "@/format/environment";
import { joinLines, linesOf, LOG_LIMIT } from "@/format/log";
import { bytes, percent, shortDigest } from "@/format/quantity";
import { splitLogin } from "@/format/rtsp";
import { addPoint, columns, deploymentMarks, type Point, toPoint } from "@/format/series";
import { clockTime, dateTime, relative, span } from "@/format/time";

describe("quantities", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.0 KB"],
    [15_812_400, "15.8 MB"],
    [812_000_000, "812 MB"],
    [53e9, "53.0 GB"],
    [null, "–"],
    [Number.NaN, "–"],
  ])("bytes(%s) = %s", (value, text) => expect(bytes(value)).toBe(text));
  it("ratios", () => {
    expect(percent(0.256)).toBe("26%");
    expect(percent(0.0123, 1)).toBe("1.2%");
    expect(percent(undefined)).toBe("–");
  });
  it("digests", () => expect(shortDigest(`sha256:${"ab".repeat(32)}`)).toBe("abababababab"));
});

describe("times", () => {
  const at = "2026-11-24T15:30:05.000Z";
  it("are shown in the site's zone", () => {
    expect(clockTime(at, "ko", "Asia/Seoul")).toBe("00:30:05");
    expect(clockTime(at, "en", "UTC")).toBe("15:30:05");
    expect(dateTime(at, "ko", "Asia/Seoul")).toContain("25");
  });
  it("are relative in the language of the page", () => {
    const now_ms = Date.parse(at);
    expect(relative("2026-11-24T15:27:05.000Z", now_ms, "ko")).toBe("3분 전");
    expect(relative("2026-11-24T16:30:05.000Z", now_ms, "en")).toBe("in 1 hour");
  });
  it("spans", () => {
    expect(span("2026-11-24T15:28:00.000Z", Date.parse(at))).toBe("2:05");
    expect(span("2026-11-24T13:28:00.000Z", Date.parse(at))).toBe("2:02:05");
  });
  it("say nothing where there is nothing", () => {
    expect(dateTime(null, "ko", "UTC")).toBe("–");
    expect(relative("not a date", 0, "ko")).toBe("–");
  });
});

describe("a pasted camera address", () => {
  it.each([
    ["rtsp://root:root@127.0.0.1:8554/a/b", "rtsp://127.0.0.1:8554/a/b", "root", "root"],
    ["rtsp://u:p%40ss@cam/x", "rtsp://cam/x", "u", "p@ss"],
    ["rtsp://u:p@ss@cam/x", "rtsp://cam/x", "u", "p@ss"],
    ["rtsp://u:100%@cam", "rtsp://cam", "u", "100%"],
    ["rtsps://u@cam/x?a=b@c", "rtsps://cam/x?a=b@c", "u", null],
    ["rtsp://cam/x@y", "rtsp://cam/x@y", null, null],
    ["  rtsp://cam ", "rtsp://cam", null, null],
  ])("%s", (text, url, login, password) => {
    expect(splitLogin(text)).toEqual({ url, login, password });
  });
});

describe("environment", () => {
  it("takes NAME=value lines and names the bad ones", () => {
    expect(parseEnvironment("A=1\n\n# note\nB_2=x=y\n9=no\nplain")).toEqual({
      values: { A: "1", B_2: "x=y" },
      bad: [5, 6],
    });
  });
});

describe("logs", () => {
  it("shows lines once that were both read and followed", () => {
    expect(joinLines(["a", "b", "c"], ["b", "c", "d"])).toEqual(["a", "b", "c", "d"]);
    expect(joinLines(["a"], ["b"])).toEqual(["a", "b"]);
    expect(joinLines([], ["a"])).toEqual(["a"]);
    expect(joinLines(["a", "a"], ["a", "b"])).toEqual(["a", "a", "b"]);
  });
  it("keeps the newest within the limit", () => {
    const many = Array.from({ length: LOG_LIMIT + 10 }, (_, index) => String(index));
    expect(joinLines(many, ["end"]).at(-1)).toBe("end");
    expect(joinLines(many, ["end"])).toHaveLength(LOG_LIMIT);
  });
  it("reads messages", () => {
    expect(linesOf("one\ntwo")).toEqual(["one", "two"]);
    expect(linesOf(null)).toEqual([]);
  });
});

describe("boxes", () => {
  const result = {
    objects: [
      { box: [0.1, 0.1, 0.2, 0.3], class: "person", class_prob: 0.7 },
      { box: [0.5, 0.1, 0.2, 0.3], class: "person", class_prob: 0.612 },
      { box: [0.1, 0.1, 0.2], class: "broken", class_prob: 1 },
      { box: [0, 0, 1, 1], class: "car", class_prob: 0.9 },
    ],
  };
  it("leaves out what is no box", () => expect(seenOf(result)).toHaveLength(3));
  it("copes with anything", () => {
    expect(seenOf(null)).toEqual([]);
    expect(seenOf({ objects: "x" })).toEqual([]);
  });
  it("counts", () => expect(countClasses(seenOf(result))).toEqual([["person", 2], ["car", 1]]));
  it("labels", () => expect(boxLabel(seenOf(result)[1]!)).toBe("person 0.61"));
  it("keeps a class's colour", () => expect(boxColor("person")).toBe(boxColor("person")));
});

describe("boxes over a picture", () => {
  const moment = (at_ms: number) => ({ at_ms, seen: [] });
  it("are those of the picture's own time", () => {
    const moments = [moment(1000), moment(1200), moment(1400)];
    expect(closest(moments, 1210)?.at_ms).toBe(1200);
    expect(closest(moments, 9000)).toBeUndefined();
    expect(closest(moments, null)?.at_ms).toBe(1400);
    expect(closest([], 1)).toBeUndefined();
  });
  it("come from results with a time, and are forgotten in time", () => {
    expect(momentOf({ captured_at: "1970-01-01T00:00:01.000Z", objects: [] })).toEqual(moment(1000));
    expect(momentOf({ objects: [] })).toBeNull();
    expect(remember([moment(0), moment(20_000)], moment(21_000))).toHaveLength(2);
  });
  it("lie where the picture lies", () => {
    expect(contain(4, 3, 1600, 300)).toEqual({ width: 400, height: 300, x: 600, y: 0 });
    expect(contain(4, 3, 400, 900)).toEqual({ width: 400, height: 300, x: 0, y: 300 });
  });
});

describe("a deployment's standing", () => {
  const base = { state: "running", outcome: "", observed_state: "running", restarts: 0 } as const;
  it.each([
    [base, "running"],
    [{ ...base, observed_state: "restarting" }, "restarting"],
    [{ ...base, state: "starting" as const, observed_state: "running" }, "starting"],
    [{ ...base, state: "gone" as const, outcome: "failed" as const }, "failed"],
  ])("%o is %s", (deployment, word) => expect(standing(deployment)).toBe(word));
});

describe("series", () => {
  const point = (at_s: number, cpu = 0.5): Point => ({
    at_s,
    cpu,
    memory: 0.5,
    temperature: null,
    containers: new Map(),
  });
  it("appends, forgets what is too old and puts late points in their place", () => {
    let points = [point(10), point(11)];
    points = addPoint(points, point(13), 100);
    points = addPoint(points, point(12), 100);
    expect(points.map((each) => each.at_s)).toEqual([10, 11, 12, 13]);
    expect(addPoint(points, point(12), 100)).toBe(points);
    expect(addPoint(points, point(14), 2).map((each) => each.at_s)).toEqual([12, 13, 14]);
  });
  it("breaks the line where samples are missing", () => {
    const [times, cpu] = columns([point(0), point(1), point(10)], [(each) => each.cpu], 3);
    expect(times).toEqual([0, 1, 5.5, 10]);
    expect(cpu).toEqual([0.5, 0.5, null, 0.5]);
  });
  it("reads samples", () => {
    const sample = {
      at: "1970-01-01T00:00:05.000Z",
      cpu_ratio: 0.25,
      memory_used_bytes: 1,
      memory_total_bytes: 4,
      containers: [{ deployment_id: "dep-a", cpu_ratio: 0.1, memory_bytes: 5 }],
    };
    const read = toPoint(sample);
    expect(read).toMatchObject({ at_s: 5, cpu: 0.25, memory: 0.25 });
    expect(read?.containers.get("dep-a")).toEqual({ cpu: 0.1, memory_bytes: 5, lag_ms: null });
    expect(toPoint({ ...sample, at: "?" })).toBeNull();
  });
  it("marks deployments of the device where they began", () => {
    const deployment = (device_id: string) =>
      ({
        device_id,
        package_name: "monitoring",
        version: "1",
        started_at: "1970-01-01T00:01:00.000Z",
        created_at: "1970-01-01T00:00:00.000Z",
      }) as Deployment;
    expect(deploymentMarks([deployment("a"), deployment("b")], "a")).toEqual([
      { at_s: 60, label: "monitoring:1", tone: "start" },
    ]);
    const ended = { ...deployment("a"), ended_at: "1970-01-01T00:02:00.000Z", outcome: "removed" };
    expect(deploymentMarks([ended as Deployment], "a")).toHaveLength(2);
    expect(deploymentMarks([{ ...ended, outcome: "replaced" } as Deployment], "a")).toHaveLength(1);
  });
});
