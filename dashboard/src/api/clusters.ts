/** Clusters over REST. Keys start with what `stream/cache` reads again when a state is announced. */
import { useQuery } from "@tanstack/react-query";
import { body, http, ifMatch, tagged } from "./client";
import type { Cluster, Consent, FormOptions, Member } from "./types";

const LIMIT = 1000;
/** Changes come over the stream; this is only the net below it. */
const SLOW_MS = 30_000;
const HEALTH_MS = 5_000;

export const useClusters = (include_gone = false) =>
  useQuery({
    queryKey: ["clusters", "list", include_gone],
    refetchInterval: SLOW_MS,
    queryFn: async () =>
      (await body(http.GET("/api/v1/clusters", { params: { query: { limit: LIMIT, include_gone } } })))
        .items,
  });

export const useCluster = (id: string) =>
  useQuery({
    queryKey: ["clusters", "one", id],
    refetchInterval: SLOW_MS,
    queryFn: async () => (await readCluster(id)).value,
  });

export const readCluster = (id: string) =>
  tagged(http.GET("/api/v1/clusters/{cluster_id}", of(id)));

export const useClusterHealth = (id: string, enabled = true) =>
  useQuery({
    queryKey: ["cluster-health", id],
    enabled,
    refetchInterval: HEALTH_MS,
    queryFn: () => body(http.GET("/api/v1/clusters/{cluster_id}/health", of(id))),
  });

export const useClusterProof = (id: string, enabled: boolean) =>
  useQuery({
    queryKey: ["cluster-proof", id],
    enabled,
    queryFn: () => body(http.GET("/api/v1/clusters/{cluster_id}/proof", of(id))),
  });

export const useBackups = (id: string) =>
  useQuery({
    queryKey: ["cluster-backups", id],
    queryFn: async () =>
      (
        await body(
          http.GET("/api/v1/clusters/{cluster_id}/backups", {
            params: { path: { cluster_id: id }, query: { limit: 200 } },
          }),
        )
      ).items,
  });

/** Read on the hosts themselves, so only when somebody wants to know. */
export const useCertificates = (id: string, enabled: boolean) =>
  useQuery({
    queryKey: ["cluster-certificates", id],
    enabled,
    staleTime: 60_000,
    queryFn: () => body(http.GET("/api/v1/clusters/{cluster_id}/certificates", of(id))),
  });

/** Member states in which a device belongs to its cluster and to no other. */
const HELD: ReadonlySet<Member["state"]> = new Set(["planned", "joining", "ready", "leaving", "cleaning"]);

export function isHeld(member: Pick<Member, "state">): boolean {
  return HELD.has(member.state);
}

/** The cluster that a device belongs to now. */
export function clusterOf(clusters: Cluster[] | undefined, device_id: string) {
  for (const cluster of clusters ?? []) {
    const member = cluster.members.find((each) => each.device_id === device_id && isHeld(each));
    if (member) return { cluster, member };
  }
  return null;
}

export type Wanted = {
  name: string;
  control_plane_ids: string[];
  worker_ids: string[];
  options: FormOptions;
};

export const checkCluster = ({ control_plane_ids, worker_ids, options }: Wanted) =>
  body(http.POST("/api/v1/clusters/check", { body: { control_plane_ids, worker_ids, options } }));
export const planCluster = (wanted: Wanted) => body(http.POST("/api/v1/clusters/plan", { body: wanted }));
export const formCluster = (wanted: Wanted) => body(http.POST("/api/v1/clusters", { body: wanted }));
export const editCluster = (id: string, etag: string, name: string) =>
  body(http.PATCH("/api/v1/clusters/{cluster_id}", { ...of(id), headers: ifMatch(etag), body: { name } }));
export const deleteCluster = (id: string) => body(http.DELETE("/api/v1/clusters/{cluster_id}", of(id)));

export const checkNodes = (id: string, device_ids: string[], role: Member["role"], consent: Consent) =>
  body(
    http.POST("/api/v1/clusters/{cluster_id}/nodes/check", {
      ...of(id),
      body: { device_ids, role, ...consent },
    }),
  );
export const addNode = (id: string, device_ids: string[], role: Member["role"], consent: Consent) =>
  body(
    http.POST("/api/v1/clusters/{cluster_id}/nodes", {
      ...of(id),
      body: { device_ids, role, ...consent },
    }),
  );
export const removeNode = (id: string, device_id: string) =>
  body(http.DELETE("/api/v1/clusters/{cluster_id}/nodes/{device_id}", node(id, device_id)));
export const replaceNode = (
  id: string,
  old_id: string,
  device_id: string,
  force: boolean,
  consent: Consent,
) =>
  body(
    http.POST("/api/v1/clusters/{cluster_id}/nodes/{device_id}/replace", {
      ...node(id, old_id),
      body: { device_id, force, ...consent },
    }),
  );
/** `null`: it is looked for by its host key. */
export const readdressNode = (id: string, device_id: string, address: string | null) =>
  body(
    http.POST("/api/v1/clusters/{cluster_id}/nodes/{device_id}/readdress", {
      ...node(id, device_id),
      body: { address },
    }),
  );

export const backUpCluster = (id: string) =>
  body(http.POST("/api/v1/clusters/{cluster_id}/backups", of(id)));
export const deleteBackup = (id: string, backup_id: string) =>
  body(
    http.DELETE("/api/v1/clusters/{cluster_id}/backups/{backup_id}", {
      params: { path: { cluster_id: id, backup_id } },
    }),
  );
/** `onto`: another device where all control planes are lost, `reached` where some are; "" for all. */
export const restoreCluster = (id: string, backup_id: string, onto: string, consent: Consent) =>
  body(
    http.POST("/api/v1/clusters/{cluster_id}/restore", {
      ...of(id),
      body: {
        backup_id,
        onto_device_id: onto === "reached" ? null : onto || null,
        leave_out_away: onto === "reached",
        ...consent,
      },
    }),
  );
export const renewCertificates = (id: string) =>
  body(http.POST("/api/v1/clusters/{cluster_id}/certificates/renew", { ...of(id), body: { every: true } }));
export const updateAgents = (id: string) =>
  body(http.POST("/api/v1/clusters/{cluster_id}/agents/update", of(id)));

function of(cluster_id: string) {
  return { params: { path: { cluster_id } } };
}

function node(cluster_id: string, device_id: string) {
  return { params: { path: { cluster_id, device_id } } };
}
