import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { deleteCamera } from "@/api/actions";
import { useAssignments, useCameras, useDevices, useResults } from "@/api/queries";
import type { Assignment, Camera, Result } from "@/api/types";
import { ResultTable } from "@/features/results/table";
import { gpsText } from "@/format/gps";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { useTopic } from "@/stream/react";
import { Button } from "@/ui/button";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { RemoveDialog } from "@/ui/remove";
import { State } from "@/ui/status";
import { Still } from "@/ui/still";
import { Clock } from "@/ui/time";
import { tell } from "@/ui/toast";
import { AssignmentTable } from "./assignments";
import { AssignDialog, CameraDialog } from "./dialogs";
import { NeighboursPanel } from "./neighbours";

const SHOWN = 30;
/** More than are shown, as most frames of a calm camera show nothing. */
const READ = 300;
const NONE: Assignment[] = [];

export function CameraPage() {
  const t = useT();
  const { id } = useParams({ from: "/cameras/$id" });
  const cameras = useCameras();
  return (
    <Loaded query={cameras}>
      {(list) => {
        const camera = list.find((each) => each.id === id);
        return camera ? (
          <Content key={id} camera={camera} />
        ) : (
          <Empty title={t("camera.gone")} hint={t("camera.goneHint")} />
        );
      }}
    </Loaded>
  );
}

function Content({ camera }: { camera: Camera }) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const operator = useMay("operator");
  const devices = useDevices().data;
  const assignments = useAssignments();
  const [open, setOpen] = useState<"edit" | "assign" | "delete" | null>(null);
  const close = () => setOpen(null);
  const all = assignments.data ?? NONE;
  const mine = useMemo(() => all.filter((each) => each.camera_id === camera.id), [all, camera.id]);
  const home = devices?.find((each) => each.id === camera.device_id);
  return (
    <Page
      above={<Link to="/cameras">{t("cameras.title")}</Link>}
      title={
        <>
          {camera.name}
          <span className="text-base font-normal">
            <State group="camera.state" value={camera.state} />
          </span>
        </>
      }
      actions={
        operator && (
          <>
            <Button tone="primary" onClick={() => setOpen("assign")}>
              {t("assign.action")}
            </Button>
            <Button onClick={() => setOpen("edit")}>{t("action.edit")}</Button>
            <Button tone="danger" onClick={() => setOpen("delete")}>
              {t("action.delete")}
            </Button>
          </>
        )
      }
    >
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_22rem]">
        <Panel flush className="overflow-hidden">
          <Still
            camera_id={camera.id}
            name={camera.name}
            available={home?.state === "ok"}
            big className="max-h-[62vh]" />
        </Panel>
        <Panel title={t("device.facts")}>
          <Facts
            rows={[
              [
                t("camera.homeDevice"),
                home ? (
                  <Link to="/devices/$id" params={{ id: home.id }} className="text-accent hover:underline">
                    {home.name}
                  </Link>
                ) : (
                  "–"
                ),
              ],
              [t("camera.url"), <code key="u" className="font-mono text-xs">{camera.url}</code>],
              [t("camera.subUrl"), <code key="s" className="font-mono text-xs">{camera.sub_url ?? "–"}</code>],
              [t("camera.login"), camera.login ?? "–"],
              [t("camera.password"), t(camera.has_password ? "camera.stored" : "camera.notStored")],
              [t("field.postalAddress"), camera.postal_address || "–"],
              [t("field.gps"), gpsText(camera.gps) || "–"],
              [t("field.description"), camera.description || "–"],
              [t("field.createdAt"), <Clock key="c" at={camera.created_at} full />],
              ["ID", <code key="i" className="font-mono text-xs">{camera.id}</code>],
            ]}
          />
        </Panel>
      </div>
      <Panel title={t("assignments.title")} flush>
        <Loaded query={assignments}>
          {() => (
            <AssignmentTable
              assignments={mine}
              without="camera"
              empty={
                <Empty
                  title={t("camera.unwatched")}
                  hint={t("assignments.emptyCamera")}
                  action={
                    operator && (
                      <Button tone="primary" onClick={() => setOpen("assign")}>
                        {t("assign.action")}
                      </Button>
                    )
                  }
                />
              }
            />
          )}
        </Loaded>
      </Panel>
      <NeighboursPanel camera={camera} />
      <RecentResults camera_id={camera.id} />
      {open === "edit" && <CameraDialog camera={camera} onClose={close} />}
      {open === "assign" && <AssignDialog camera={camera} onClose={close} />}
      {open === "delete" && (
        <RemoveDialog
          title={t("camera.deleteTitle", { name: camera.name })}
          hint={t("camera.deleteHint")}
          forceLabel={t("camera.force")}
          forceHint={t("camera.forceHint")}
          onClose={close}
          remove={async (force) => {
            await deleteCamera(camera.id, force);
            await navigate({ to: "/cameras" });
            await queries.invalidateQueries({ queryKey: ["cameras"] });
            tell(t("done.deleted"));
          }}
        />
      )}
    </Page>
  );
}

/** What is stored first, then what arrives; frames in which nothing was seen are left out. */
function RecentResults({ camera_id }: { camera_id: string }) {
  const t = useT();
  const query = useResults({ camera_id }, null, READ);
  const [live, setLive] = useState<Result[]>([]);
  useTopic(`results:${camera_id}`, (message) => {
    const row = message.data as Result;
    if (!sawSomething(row)) return;
    setLive((known) => [row, ...known].slice(0, SHOWN));
  });
  return (
    <Panel
      title={t("camera.recent")}
      flush
      actions={
        <Link to="/results" search={{ camera_id }} className="text-xs text-accent hover:underline">
          {t("results.all")}
        </Link>
      }
    >
      <Loaded query={query}>
        {(stored) => {
          const newest = stored.items[0]?.captured_at ?? "";
          const rows = [
            ...live.filter((each) => (each.captured_at ?? "") > newest),
            ...stored.items.filter(sawSomething),
          ].slice(0, SHOWN);
          return <ResultTable rows={rows} without={["camera"]} />;
        }}
      </Loaded>
    </Panel>
  );
}

function sawSomething(row: Result): boolean {
  return row.objects.length > 0 || Boolean(row.class);
}
