/**
 * The one WebSocket of a tab: topics, resume by cursor, reconnect with jitter.
 *
 * Knows nothing of React nor of what the topics carry. Everything outside (socket, timer, random)
 * is handed in, so the tests need neither a browser nor a clock.
 */

export type StreamMessage = { topic: string; cursor: number; at: string; data?: unknown };
export type StreamState =
  | { kind: "idle" }
  | { kind: "connecting"; attempt: number }
  | { kind: "live"; since_ms: number }
  | { kind: "waiting"; attempt: number; retry_at_ms: number };

export type Socket = {
  send(text: string): void;
  close(): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
};

export type StreamDeps = {
  connect(): Socket;
  now_ms(): number;
  random(): number;
  later(delay_ms: number, run: () => void): () => void;
};

type Handler = (message: StreamMessage) => void;

export const RETRY_MIN_MS = 500;
export const RETRY_MAX_MS = 15_000;
/** After so many dials in vain the session may be over: somebody should look. */
const DOUBT_AFTER = 2;

/** Full jitter above a floor: many tabs do not come back in step after a restart. */
export function retryDelay(attempt: number, random: number): number {
  const ceiling = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** (attempt + 1));
  return Math.round(RETRY_MIN_MS + random * Math.max(0, ceiling - RETRY_MIN_MS));
}

export class StreamClient {
  private socket: Socket | null = null;
  private open = false;
  private stopped = true;
  private attempt = 0;
  private cursor: number | null = null;
  private cancelRetry: (() => void) | null = null;
  private handlers = new Map<string, Set<Handler>>();
  private watchers = new Set<() => void>();
  private gapHandlers = new Set<() => void>();
  private doubtHandlers = new Set<() => void>();
  private current: StreamState = { kind: "idle" };

  constructor(private readonly deps: StreamDeps) {}

  get state(): StreamState {
    return this.current;
  }

  /** Called on every change of `state`. */
  watch = (run: () => void): (() => void) => {
    this.watchers.add(run);
    return () => this.watchers.delete(run);
  };

  /** Called when messages were lost (or may have been): what was cached must be read again. */
  onGap(run: () => void): () => void {
    this.gapHandlers.add(run);
    return () => this.gapHandlers.delete(run);
  }

  /** Called when dialling keeps failing: a refused handshake does not tell its reason. */
  onDoubt(run: () => void): () => void {
    this.doubtHandlers.add(run);
    return () => this.doubtHandlers.delete(run);
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.attempt = 0;
    this.dial();
  }

  stop(): void {
    this.stopped = true;
    this.cancelRetry?.();
    this.cancelRetry = null;
    this.drop();
    this.cursor = null;
    this.become({ kind: "idle" });
  }

  /** The network came back: do not sit out the rest of a long wait. */
  hurry(): void {
    if (this.stopped || this.current.kind !== "waiting") return;
    this.cancelRetry?.();
    this.dial();
  }

  subscribe(topic: string, handler: Handler): () => void {
    let set = this.handlers.get(topic);
    if (!set) {
      set = new Set();
      this.handlers.set(topic, set);
      // A fresh topic has no past for this tab: only a reconnect resumes from the cursor.
      if (this.open) this.send({ subscribe: [topic], cursor: null });
    }
    set.add(handler);
    return () => {
      const now = this.handlers.get(topic);
      if (!now?.delete(handler) || now.size > 0) return;
      this.handlers.delete(topic);
      if (this.open) this.send({ unsubscribe: [topic] });
    };
  }

  private dial(): void {
    this.attempt += 1;
    this.become({ kind: "connecting", attempt: this.attempt });
    const socket = this.deps.connect();
    this.socket = socket;
    socket.onopen = () => {
      if (this.socket !== socket) return;
      const resumed = this.cursor !== null;
      this.open = true;
      this.attempt = 0;
      this.become({ kind: "live", since_ms: this.deps.now_ms() });
      if (this.handlers.size > 0) {
        this.send({ subscribe: [...this.handlers.keys()], cursor: this.cursor });
      }
      if (resumed) this.gap();
    };
    socket.onmessage = (event) => {
      if (this.socket === socket) this.receive(event.data);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.drop();
      if (this.stopped) return;
      if (this.attempt >= DOUBT_AFTER) for (const run of this.doubtHandlers) run();
      const delay_ms = retryDelay(this.attempt, this.deps.random());
      this.become({
        kind: "waiting",
        attempt: this.attempt,
        retry_at_ms: this.deps.now_ms() + delay_ms,
      });
      this.cancelRetry = this.deps.later(delay_ms, () => {
        this.cancelRetry = null;
        this.dial();
      });
    };
  }

  private receive(raw: unknown): void {
    const said = parse(raw);
    if (said === null) return;
    if (isMessage(said)) {
      this.cursor = said.cursor;
      for (const handler of this.handlers.get(said.topic) ?? []) handler(said);
      return;
    }
    if ("lagged" in said) this.gap();
    if ("subscribed" in said && typeof said.cursor === "number") {
      // A cursor behind ours means that the server began anew: ours says nothing to it.
      if (this.cursor !== null && said.cursor < this.cursor) this.gap();
      this.cursor = said.cursor;
    }
  }

  private gap(): void {
    for (const run of this.gapHandlers) run();
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.open = false;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  private send(body: object): void {
    this.socket?.send(JSON.stringify(body));
  }

  private become(state: StreamState): void {
    this.current = state;
    for (const run of this.watchers) run();
  }
}

function parse(raw: unknown): Record<string, unknown> | null {
  if (typeof raw !== "string") return null;
  try {
    const value: unknown = JSON.parse(raw);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isMessage(said: Record<string, unknown>): said is StreamMessage {
  return typeof said.topic === "string" && typeof said.cursor === "number";
}
