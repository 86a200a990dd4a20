import { describe, expect, it } from "vitest";
import { RETRY_MAX_MS, RETRY_MIN_MS, retryDelay, type Socket, StreamClient } from "@/stream/client";

class FakeSocket implements Socket {
  sent: Record<string, unknown>[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  send(text: string) {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }
  close() {
    this.closed = true;
  }
  say(body: unknown) {
    this.onmessage?.({ data: JSON.stringify(body) });
  }
}

function setUp() {
  const sockets: FakeSocket[] = [];
  const timers: { delay_ms: number; run: () => void; cancelled: boolean }[] = [];
  const client = new StreamClient({
    connect: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    now_ms: () => 1000,
    random: () => 0.5,
    later: (delay_ms, run) => {
      const timer = { delay_ms, run, cancelled: false };
      timers.push(timer);
      return () => {
        timer.cancelled = true;
      };
    },
  });
  return { client, sockets, timers, socket: () => sockets.at(-1)! };
}

const message = (topic: string, cursor: number, data: unknown = {}) => ({
  topic,
  cursor,
  at: "2026-01-01T00:00:00.000Z",
  data,
});

describe("topics", () => {
  it("subscribes what is wanted once the socket opens, and routes messages by topic", () => {
    const { client, socket } = setUp();
    const seen: unknown[] = [];
    client.subscribe("samples:dev-a", (each) => seen.push(each.data));
    client.start();
    expect(socket().sent).toEqual([]);
    socket().onopen?.();
    expect(socket().sent).toEqual([{ subscribe: ["samples:dev-a"], cursor: null }]);
    socket().say(message("samples:dev-b", 1, "not mine"));
    socket().say(message("samples:dev-a", 2, "mine"));
    expect(seen).toEqual(["mine"]);
  });

  it("asks once for a topic with two readers and lets go with the last", () => {
    const { client, socket } = setUp();
    client.start();
    socket().onopen?.();
    const first = client.subscribe("states", () => undefined);
    const second = client.subscribe("states", () => undefined);
    expect(socket().sent).toEqual([{ subscribe: ["states"], cursor: null }]);
    first();
    first();
    expect(socket().sent).toHaveLength(1);
    second();
    expect(socket().sent.at(-1)).toEqual({ unsubscribe: ["states"] });
  });

  it("ignores what it cannot read", () => {
    const { client, socket } = setUp();
    client.subscribe("states", () => {
      throw new Error("must not be called");
    });
    client.start();
    socket().onopen?.();
    socket().onmessage?.({ data: "{" });
    socket().onmessage?.({ data: new ArrayBuffer(1) });
    socket().say({ error: { code: "core.bad_request" } });
    expect(client.state.kind).toBe("live");
  });
});

describe("reconnecting", () => {
  it("resumes every topic from the last cursor and says that something may be missing", () => {
    const { client, sockets, timers, socket } = setUp();
    let gaps = 0;
    client.onGap(() => gaps++);
    client.subscribe("events", () => undefined);
    client.subscribe("states", () => undefined);
    client.start();
    socket().onopen?.();
    socket().say(message("events", 41));
    socket().onclose?.();
    expect(client.state).toEqual({ kind: "waiting", attempt: 0, retry_at_ms: 1000 + timers[0]!.delay_ms });
    timers[0]!.run();
    expect(sockets).toHaveLength(2);
    socket().onopen?.();
    expect(socket().sent).toEqual([{ subscribe: ["events", "states"], cursor: 41 }]);
    expect(gaps).toBe(1);
  });

  it("waits longer each time it dials in vain and tells that the session may be over", () => {
    const { client, timers, socket } = setUp();
    let doubts = 0;
    client.onDoubt(() => doubts++);
    client.start();
    for (let round = 0; round < 4; round += 1) {
      socket().onclose?.();
      timers.at(-1)!.run();
    }
    const delays = timers.map((timer) => timer.delay_ms);
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    expect(doubts).toBe(3);
  });

  it("dials at once when the network is back, and only once", () => {
    const { client, sockets, timers, socket } = setUp();
    client.start();
    client.hurry();
    expect(sockets).toHaveLength(1);
    socket().onclose?.();
    client.hurry();
    expect(sockets).toHaveLength(2);
    expect(timers[0]!.cancelled).toBe(true);
  });

  it("stays away after stop", () => {
    const { client, sockets, socket } = setUp();
    client.start();
    const first = socket();
    first.onopen?.();
    client.stop();
    expect(first.closed).toBe(true);
    expect(first.onclose).toBeNull();
    expect(client.state.kind).toBe("idle");
    expect(sockets).toHaveLength(1);
  });

  it("keeps jitter within its bounds", () => {
    for (const attempt of [0, 1, 2, 5, 50]) {
      expect(retryDelay(attempt, 0)).toBe(RETRY_MIN_MS);
      expect(retryDelay(attempt, 1)).toBeLessThanOrEqual(RETRY_MAX_MS);
    }
    expect(retryDelay(50, 1)).toBe(RETRY_MAX_MS);
  });
});

describe("losses", () => {
  it("reports what the server says was lost", () => {
    const { client, socket } = setUp();
    let gaps = 0;
    client.onGap(() => gaps++);
    client.start();
    socket().onopen?.();
    socket().say({ lagged: 12 });
    expect(gaps).toBe(1);
  });

  it("notices that the server began anew", () => {
    const { client, socket } = setUp();
    let gaps = 0;
    client.onGap(() => gaps++);
    client.start();
    socket().onopen?.();
    socket().say(message("states", 900));
    socket().say({ subscribed: ["states"], cursor: 3 });
    expect(gaps).toBe(1);
  });
});
