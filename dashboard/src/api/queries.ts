/** Every read of the API as a query; keys start with the noun that `stream/cache` invalidates. */
import { keepPreviousData, queryOptions, useQuery } from "@tanstack/react-query";
import { body, http, tagged } from "./client";
import type { Sample } from "./types";

const LIMIT = 1000;
/** The stream says what changed; this is only the net below it. */
const SLOW_MS = 30_000;

export const meQuery = queryOptions({
  queryKey: ["me"],
  queryFn: () => body(http.GET("/api/v1/me")),
  retry: false,
  staleTime: Number.POSITIVE_INFINITY,
});
export const useMe = () => useQuery(meQuery);

export const useSite = () =>
  useQuery({
    queryKey: ["site"],
    queryFn: () => body(http.GET("/api/v1/site")),
    staleTime: 60_000,
  });

export const useDevices = () =>
  useQuery({
    queryKey: ["devices"],
    queryFn: async () => (await body(http.GET("/api/v1/devices", page()))).items,
    refetchInterval: SLOW_MS,
  });

export const useAgent = (device_id: string) =>
  useQuery({
    queryKey: ["devices", "agent", device_id],
    refetchInterval: 5_000,
    queryFn: () => body(http.GET("/api/v1/devices/{device_id}/agent", { params: { path: { device_id } } })),
  });

export const useCameras = () =>
  useQuery({
    queryKey: ["cameras"],
    queryFn: async () => (await body(http.GET("/api/v1/cameras", page()))).items,
    refetchInterval: SLOW_MS,
  });

export const useGroups = () =>
  useQuery({
    queryKey: ["groups"],
    queryFn: async () => (await body(http.GET("/api/v1/groups", page()))).items,
  });

export const useLinks = () =>
  useQuery({
    queryKey: ["links"],
    queryFn: async () => (await body(http.GET("/api/v1/links"))).items,
  });

/** Pairs of cameras so near to each other that are not linked yet. */
export const useLinkSuggestions = (max_m: number) =>
  useQuery({
    queryKey: ["links", "suggestions", max_m],
    // Coordinates may have been entered since.
    staleTime: 0,
    placeholderData: keepPreviousData,
    queryFn: async () =>
      (await body(http.GET("/api/v1/links/suggestions", { params: { query: { max_m } } }))).items,
  });

export const usePackages = () =>
  useQuery({
    queryKey: ["packages"],
    queryFn: async () => (await body(http.GET("/api/v1/packages", page()))).items,
  });

export const useVersions = (package_id: string) =>
  useQuery({
    queryKey: ["versions", package_id],
    queryFn: async () =>
      (
        await body(
          http.GET("/api/v1/packages/{package_id}/versions", { params: { path: { package_id } } }),
        )
      ).items,
  });

/** Of every package: for what knows a version by its id only. */
export const useAllVersions = (packages: { id: string }[] | undefined) =>
  useQuery({
    queryKey: ["versions", "all", packages?.map((each) => each.id)],
    enabled: packages !== undefined,
    queryFn: async () => {
      const all = (packages ?? []).map(({ id }) =>
        body(http.GET("/api/v1/packages/{package_id}/versions", { params: { path: { package_id: id } } })),
      );
      return (await Promise.all(all)).flatMap((each) => each.items);
    },
  });

export const useBuilds = (package_id: string) =>
  useQuery({
    queryKey: ["builds", package_id],
    queryFn: async () =>
      (await body(http.GET("/api/v1/builds", { params: { query: { package_id, limit: 20 } } }))).items,
  });

export const useDeployments = () =>
  useQuery({
    queryKey: ["deployments"],
    queryFn: async () => (await body(http.GET("/api/v1/deployments", page()))).items,
    refetchInterval: SLOW_MS,
  });

/** Of one device, the past ones too: charts show where each began. */
export const useDeploymentHistory = (device_id: string) =>
  useQuery({
    queryKey: ["deployments", "history", device_id],
    queryFn: async () =>
      (
        await body(
          http.GET("/api/v1/deployments", {
            params: { query: { device_id, include_removed: true, limit: 200 } },
          }),
        )
      ).items,
  });

export const useAssignments = () =>
  useQuery({
    queryKey: ["assignments"],
    queryFn: async () => (await body(http.GET("/api/v1/assignments", page()))).items,
    refetchInterval: SLOW_MS,
  });

export const useOperations = () =>
  useQuery({
    queryKey: ["operations"],
    queryFn: () => body(http.GET("/api/v1/operations", { params: { query: { limit: 100 } } })),
    refetchInterval: SLOW_MS,
  });

export const useOperation = (id: string | null) =>
  useQuery({
    queryKey: ["operation", id],
    enabled: id !== null,
    queryFn: () =>
      body(http.GET("/api/v1/operations/{operation_id}", { params: { path: { operation_id: id ?? "" } } })),
  });

export type ResultFilter = {
  camera_id?: string;
  device_id?: string;
  package_id?: string;
  class?: string;
  from?: string;
  to?: string;
};

export const useResults = (filter: ResultFilter, cursor: string | null, limit: number) =>
  useQuery({
    queryKey: ["results", filter, cursor, limit],
    placeholderData: keepPreviousData,
    // The newest page follows what comes in; an older one stays as it is being read.
    refetchInterval: cursor === null ? 5_000 : false,
    queryFn: () =>
      body(
        http.GET("/api/v1/results", {
          params: { query: { ...filter, limit, ...(cursor ? { cursor } : {}) } },
        }),
      ),
  });

export const useResultSummary = (filter: ResultFilter, bucket_s: number) =>
  useQuery({
    queryKey: ["results", "summary", filter, bucket_s],
    placeholderData: keepPreviousData,
    refetchInterval: 10_000,
    queryFn: async () =>
      (await body(http.GET("/api/v1/results/summary", { params: { query: { ...filter, bucket_s } } })))
        .items,
  });

export async function readSamples(
  device_id: string,
  from: Date,
  to: Date,
  step_s: number,
): Promise<Sample[]> {
  const got = await body(
    http.GET("/api/v1/metrics/samples", {
      params: {
        query: { device_id, from: from.toISOString(), to: to.toISOString(), step_s },
      },
    }),
  );
  return got.items;
}

/** Mean CPU of a device around a moment: what a deployment changed. */
export const useBeforeAfter = (device_id: string, at: string | null) =>
  useQuery({
    queryKey: ["before-after", device_id, at],
    enabled: at !== null,
    refetchInterval: 10_000,
    queryFn: () =>
      body(
        http.GET("/api/v1/metrics/before-after", {
          params: { query: { device_id, at: at ?? "", before_s: 60, after_s: 60 } },
        }),
      ),
  });

export const useUsers = () =>
  useQuery({
    queryKey: ["users"],
    queryFn: async () => (await body(http.GET("/api/v1/users", page()))).items,
  });

/** One's own; an admin sees everyone's. */
export const useTokens = (everyone: boolean) =>
  useQuery({
    queryKey: ["tokens", everyone],
    queryFn: async () =>
      (await body(http.GET("/api/v1/tokens", { params: { query: { limit: LIMIT, everyone } } }))).items,
  });

export const useAudit = (cursor: string | null) =>
  useQuery({
    queryKey: ["audit", cursor],
    placeholderData: keepPreviousData,
    queryFn: () =>
      body(
        http.GET("/api/v1/audit", {
          params: { query: { limit: 100, ...(cursor ? { cursor } : {}) } },
        }),
      ),
  });

export const useSettings = (enabled: boolean) =>
  useQuery({
    queryKey: ["settings"],
    enabled,
    queryFn: async () => (await body(http.GET("/api/v1/settings"))).items,
  });

export const useBaseImages = () =>
  useQuery({
    queryKey: ["base-images"],
    queryFn: async () => (await body(http.GET("/api/v1/base-images"))).items,
  });

export const useRegistry = () =>
  useQuery({ queryKey: ["registry"], queryFn: () => body(http.GET("/api/v1/registry")) });

export const readDevice = (id: string) =>
  tagged(http.GET("/api/v1/devices/{device_id}", { params: { path: { device_id: id } } }));
export const readCamera = (id: string) =>
  tagged(http.GET("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: id } } }));
export const readGroup = (id: string) =>
  tagged(http.GET("/api/v1/groups/{group_id}", { params: { path: { group_id: id } } }));
export const readUser = (id: string) =>
  tagged(http.GET("/api/v1/users/{user_id}", { params: { path: { user_id: id } } }));
export const readSite = () => tagged(http.GET("/api/v1/site"));

function page() {
  return { params: { query: { limit: LIMIT } } };
}
