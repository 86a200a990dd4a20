/** The stream for components: one client for the tab, topics as hooks, cache kept in step. */
import { useQueryClient } from "@tanstack/react-query";
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useEffectEvent,
  useMemo,
  useSyncExternalStore,
} from "react";
import { type Socket, StreamClient, type StreamMessage, type StreamState } from "./client";
import { applyOperation, applyState } from "./cache";

const Context = createContext<StreamClient | null>(null);

function browserSocket(): Socket {
  const scheme = window.location.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(`${scheme}//${window.location.host}/api/v1/stream`) as unknown as Socket;
}

export function StreamProvider({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const client = useMemo(
    () =>
      new StreamClient({
        connect: browserSocket,
        now_ms: () => Date.now(),
        random: () => Math.random(),
        later: (delay_ms, run) => {
          const timer = window.setTimeout(run, delay_ms);
          return () => window.clearTimeout(timer);
        },
      }),
    [],
  );
  useEffect(() => {
    const offs = [
      client.subscribe("operations", (message) => applyOperation(queries, message.data)),
      client.subscribe("states", (message) => applyState(queries, message.data)),
      client.onGap(() => void queries.invalidateQueries()),
      client.onDoubt(() => void queries.invalidateQueries({ queryKey: ["me"] })),
    ];
    const hurry = () => client.hurry();
    window.addEventListener("online", hurry);
    client.start();
    return () => {
      window.removeEventListener("online", hurry);
      for (const off of offs) off();
      client.stop();
    };
  }, [client, queries]);
  return <Context value={client}>{children}</Context>;
}

function useClient(): StreamClient {
  const client = useContext(Context);
  if (!client) throw new Error("no StreamProvider above");
  return client;
}

/** Follow one topic while the component is shown; `null` follows nothing. */
export function useTopic(topic: string | null, handler: (message: StreamMessage) => void): void {
  const client = useClient();
  const latest = useEffectEvent(handler);
  useEffect(() => {
    if (topic === null) return;
    return client.subscribe(topic, (message) => latest(message));
  }, [client, topic]);
}

export function useStreamState(): StreamState {
  const client = useClient();
  return useSyncExternalStore(client.watch, () => client.state);
}
