/** What the AIs said: filters, counts over time, and the rows themselves. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { type ResultFilter, useCameras, useDevices, usePackages, useResults, useResultSummary } from "@/api/queries";
import type { SummaryBucket } from "@/api/types";
import { boxColor } from "@/format/boxes";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Chart } from "@/ui/chart";
import { Input, Select } from "@/ui/field";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { useNow } from "@/ui/time";
import { ResultTable } from "./table";

const SPANS = { hour: 3600, day: 86_400, week: 604_800 } as const;
export type SpanName = keyof typeof SPANS;
const BUCKET_S: Record<SpanName, number> = { hour: 60, day: 900, week: 3600 };

export type ResultSearch = {
  camera_id?: string;
  device_id?: string;
  package_id?: string;
  class?: string;
  span?: SpanName;
};

/** Only what is known is taken from the address. */
export function resultSearch(search: Record<string, unknown>): ResultSearch {
  const text = (key: string) => (typeof search[key] === "string" && search[key] ? search[key] : undefined);
  const span = text("span");
  return {
    camera_id: text("camera_id"),
    device_id: text("device_id"),
    package_id: text("package_id"),
    class: text("class"),
    span: span === "day" || span === "week" ? span : undefined,
  };
}

export function ResultsPage() {
  const t = useT();
  const search: ResultSearch = useSearch({ from: "/results" });
  const navigate = useNavigate({ from: "/results" });
  const cameras = useCameras().data ?? [];
  const devices = useDevices().data ?? [];
  const packages = usePackages().data ?? [];
  const span = search.span ?? "hour";
  const minute_s = Math.floor(useNow() / 60_000) * 60;
  const filter = useMemo<ResultFilter>(() => {
    const { camera_id, device_id, package_id, class: name } = search;
    const from = new Date((minute_s - SPANS[span]) * 1000).toISOString();
    const wanted = { camera_id, device_id, package_id, class: name, from };
    return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
  }, [search, span, minute_s]);
  const set = (change: Partial<ResultSearch>) =>
    void navigate({ search: (old: ResultSearch) => resultSearch({ ...old, ...change }) });
  const any = t("field.any");
  return (
    <Page title={t("results.title")}>
      <Panel>
        <div className="grid grid-cols-2 gap-3 lg:grid-cols-5">
          <Select
            label={t("field.camera")}
            value={search.camera_id ?? ""}
            onPick={(camera_id) => set({ camera_id })}
            options={[["", any], ...cameras.map((each) => [each.id, each.name] as const)]}
          />
          <Select
            label={t("field.device")}
            value={search.device_id ?? ""}
            onPick={(device_id) => set({ device_id })}
            options={[["", any], ...devices.map((each) => [each.id, each.name] as const)]}
          />
          <Select
            label="AI"
            value={search.package_id ?? ""}
            onPick={(package_id) => set({ package_id })}
            options={[["", any], ...packages.map((each) => [each.id, each.name] as const)]}
          />
          <Input
            label={t("result.class")}
            placeholder="person"
            defaultValue={search.class ?? ""}
            onBlur={(event) => set({ class: event.target.value.trim() })}
            onKeyDown={(event) => {
              if (event.key === "Enter") set({ class: event.currentTarget.value.trim() });
            }}
          />
          <Select
            label={t("result.span")}
            value={span}
            onPick={(next) => set({ span: next })}
            options={[
              ["hour", t("chart.hour")],
              ["day", t("chart.day")],
              ["week", t("chart.week")],
            ]}
          />
        </div>
      </Panel>
      <Counts filter={filter} span={span} to_s={minute_s + 60} />
      <Rows key={JSON.stringify(search)} filter={filter} />
    </Page>
  );
}

function Counts({ filter, span, to_s }: { filter: ResultFilter; span: SpanName; to_s: number }) {
  const t = useT();
  const bucket_s = BUCKET_S[span];
  const query = useResultSummary(filter, bucket_s);
  return (
    <Panel title={t("results.counts")}>
      <Loaded query={query}>
        {(buckets) =>
          buckets.length === 0 ? (
            <Empty title={t("results.empty")} hint={t("results.emptyHint")} />
          ) : (
            <CountChart buckets={buckets} range={[to_s - SPANS[span], to_s]} />
          )
        }
      </Loaded>
    </Panel>
  );
}

function CountChart({ buckets, range }: { buckets: SummaryBucket[]; range: [number, number] }) {
  const t = useT();
  const classes = useMemo(() => topClasses(buckets), [buckets]);
  const data = useMemo<[number[], ...(number | null)[][]]>(
    () => [
      buckets.map((each) => Date.parse(each.at) / 1000),
      buckets.map((each) => each.count),
      ...classes.map((name) => buckets.map((each) => each.by_class[name] ?? 0)),
    ],
    [buckets, classes],
  );
  return (
    <Chart
      label={t("results.counts")}
      data={data}
      range={range}
      height={190}
      format={(value) => Math.round(value).toLocaleString(t.language)}
      series={[
        { name: t("results.frames"), color: "#7b8896", fill: true },
        ...classes.map((name) => ({ name, color: boxColor(name) })),
      ]}
    />
  );
}

function topClasses(buckets: SummaryBucket[]): string[] {
  const totals = new Map<string, number>();
  for (const bucket of buckets) {
    for (const [name, count] of Object.entries(bucket.by_class)) {
      totals.set(name, (totals.get(name) ?? 0) + count);
    }
  }
  return [...totals].sort((a, b) => b[1] - a[1]).slice(0, 5).map(([name]) => name);
}

function Rows({ filter }: { filter: ResultFilter }) {
  const t = useT();
  const [cursors, setCursors] = useState<string[]>([]);
  const query = useResults(filter, cursors.at(-1) ?? null, 100);
  const next = query.data?.next_cursor;
  return (
    <Panel
      title={t("results.rows")}
      flush
      actions={
        <>
          <Button small busy={query.isFetching} onClick={() => void query.refetch()}>
            {t("action.reload")}
          </Button>
          <Button small disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>
            {t("action.newer")}
          </Button>
          <Button small disabled={!next} onClick={() => next && setCursors([...cursors, next])}>
            {t("action.older")}
          </Button>
        </>
      }
    >
      <Loaded query={query}>{(page) => <ResultTable rows={page.items} />}</Loaded>
    </Panel>
  );
}
