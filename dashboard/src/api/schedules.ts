/** Schedules, maintenance hours and agents of hosts over REST. */
import { useQuery } from "@tanstack/react-query";
import { body, http, ifMatch, tagged } from "./client";
import type { Hours, ScheduleEdit, ScheduleIn } from "./types";

const LIMIT = 1000;
const SLOW_MS = 30_000;

export const useSchedules = () =>
  useQuery({
    queryKey: ["schedules", "list"],
    refetchInterval: SLOW_MS,
    queryFn: async () =>
      (await body(http.GET("/api/v1/schedules", { params: { query: { limit: LIMIT } } }))).items,
  });

/** Newest first. */
export const useScheduleRuns = (schedule_id: string, limit: number) =>
  useQuery({
    queryKey: ["schedule-runs", schedule_id, limit],
    refetchInterval: SLOW_MS,
    queryFn: async () =>
      (
        await body(
          http.GET("/api/v1/schedules/{schedule_id}/runs", {
            params: { path: { schedule_id }, query: { limit } },
          }),
        )
      ).items,
  });

export const readSchedule = (id: string) => tagged(http.GET("/api/v1/schedules/{schedule_id}", of(id)));

export const createSchedule = (schedule: ScheduleIn) =>
  body(http.POST("/api/v1/schedules", { body: schedule }));
export const editSchedule = (id: string, etag: string, change: ScheduleEdit) =>
  body(http.PATCH("/api/v1/schedules/{schedule_id}", { ...of(id), headers: ifMatch(etag), body: change }));
export const deleteSchedule = (id: string) =>
  body(http.DELETE("/api/v1/schedules/{schedule_id}", of(id)));
export const runSchedule = (id: string) =>
  body(http.POST("/api/v1/schedules/{schedule_id}/run", of(id)));

export const useMaintenance = (device_id: string) =>
  useQuery({
    queryKey: ["maintenance", device_id],
    queryFn: async () => (await readMaintenance(device_id)).value.hours,
  });
export const readMaintenance = (device_id: string) =>
  tagged(http.GET("/api/v1/devices/{device_id}/maintenance", { params: { path: { device_id } } }));
export const setMaintenance = (device_id: string, etag: string, hours: Hours[]) =>
  body(
    http.PUT("/api/v1/devices/{device_id}/maintenance", {
      params: { path: { device_id } },
      headers: ifMatch(etag),
      body: { hours },
    }),
  );

export const installAgent = (device_id: string) =>
  body(http.POST("/api/v1/devices/{device_id}/agent", { params: { path: { device_id } } }));
export const updateAgent = (device_id: string) =>
  body(http.POST("/api/v1/devices/{device_id}/agent/update", { params: { path: { device_id } } }));
export const removeAgent = (device_id: string) =>
  body(http.DELETE("/api/v1/devices/{device_id}/agent", { params: { path: { device_id } } }));

function of(schedule_id: string) {
  return { params: { path: { schedule_id } } };
}
