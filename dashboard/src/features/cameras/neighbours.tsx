/** Which cameras are beside this one: entered by hand, or proposed by their coordinates. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { createLink, deleteLink } from "@/api/actions";
import { useCameras, useLinks, useLinkSuggestions } from "@/api/queries";
import type { Camera, CameraLink } from "@/api/types";
import { metres } from "@/format/quantity";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Dialog, FormDialog } from "@/ui/dialog";
import { Input, Select } from "@/ui/field";
import { Empty, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { type Column, Table } from "@/ui/table";
import { tell, tellError } from "@/ui/toast";

const NEAR_M = 50;

export function NeighboursPanel({ camera }: { camera: Camera }) {
  const t = useT();
  const queries = useQueryClient();
  const links = useLinks();
  const cameras = useCameras().data;
  const operator = useMay("operator");
  const [open, setOpen] = useState<"add" | "suggest" | null>(null);
  const all = links.data;
  const mine = useMemo(
    () => (all ?? []).filter((each) => each.camera_a === camera.id || each.camera_b === camera.id),
    [all, camera.id],
  );
  const columns = useMemo<Column<CameraLink>[]>(() => {
    const remove = async (link: CameraLink) => {
      try {
        await deleteLink(link.id);
        await queries.invalidateQueries({ queryKey: ["links"] });
        tell(t("done.deleted"));
      } catch (error) {
        tellError(error, t("error.title"));
      }
    };
    return [
      {
        id: "camera",
        name: t("field.camera"),
        cell: (row) => {
          const other = otherOf(row, camera.id);
          return (
            <Link to="/cameras/$id" params={{ id: other }} className="font-medium hover:underline">
              {cameras?.find((each) => each.id === other)?.name ?? other}
            </Link>
          );
        },
      },
      { id: "origin", name: t("link.origin"), cell: (row) => t.code("link.origin", row.origin) },
      {
        id: "distance",
        name: t("link.distance"),
        cell: (row) => metres(row.distance_m),
      },
      {
        id: "preset",
        name: t("link.preset"),
        cell: (row) => (row.camera_a === camera.id ? row.preset_a : row.preset_b) ?? "–",
      },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          operator && (
            <Button small tone="ghost" onClick={() => void remove(row)}>
              {t("action.delete")}
            </Button>
          ),
      },
    ];
  }, [t, camera.id, cameras, operator, queries]);
  return (
    <Panel
      title={t("links.title")}
      flush
      actions={
        operator && (
          <>
            <Button small onClick={() => setOpen("suggest")}>
              {t("links.suggest")}
            </Button>
            <Button small onClick={() => setOpen("add")}>
              {t("links.add")}
            </Button>
          </>
        )
      }
    >
      <Loaded query={links}>
        {() => (
          <Table
            label={t("links.title")}
            rows={mine}
            columns={columns}
            rowKey={(row) => row.id}
            empty={<Empty title={t("links.empty")} hint={t("links.emptyHint")} />}
          />
        )}
      </Loaded>
      {open === "add" && <AddDialog camera={camera} links={mine} onClose={() => setOpen(null)} />}
      {open === "suggest" && <SuggestDialog camera={camera} onClose={() => setOpen(null)} />}
    </Panel>
  );
}

function otherOf(link: Pick<CameraLink, "camera_a" | "camera_b">, id: string): string {
  return link.camera_a === id ? link.camera_b : link.camera_a;
}

function AddDialog({
  camera,
  links,
  onClose,
}: {
  camera: Camera;
  links: CameraLink[];
  onClose: () => void;
}) {
  const t = useT();
  const queries = useQueryClient();
  const known = new Set([camera.id, ...links.map((each) => otherOf(each, camera.id))]);
  const others = (useCameras().data ?? []).filter((each) => !known.has(each.id));
  const [picked, setPicked] = useState("");
  const [own, setOwn] = useState("");
  const [theirs, setTheirs] = useState("");
  const other = others.find((each) => each.id === picked);
  const presets = (of: Camera) =>
    [
      ["", t("field.none")] as const,
      ...of.ptz_presets.map((each) => [each.name, each.name] as const),
    ] as const;
  return (
    <FormDialog
      title={t("links.addTitle", { name: camera.name })}
      action={t("action.add")}
      onClose={onClose}
      disabled={!picked}
      submit={async () => {
        await createLink({
          camera_a: camera.id,
          camera_b: picked,
          preset_a: own || null,
          preset_b: theirs || null,
          origin: "hand",
        });
        await queries.invalidateQueries({ queryKey: ["links"] });
        tell(t("done.added"));
      }}
    >
      <Select
        label={t("links.other")}
        hint={others.length === 0 ? t("links.noOther") : undefined}
        value={picked}
        onPick={setPicked}
        options={[["", t("field.choose")], ...others.map((each) => [each.id, each.name] as const)]}
      />
      {camera.ptz_presets.length > 0 && (
        <Select
          label={t("link.presetOf", { name: camera.name })}
          hint={t("link.presetHint")}
          value={own}
          onPick={setOwn}
          options={presets(camera)}
        />
      )}
      {other && other.ptz_presets.length > 0 && (
        <Select
          label={t("link.presetOf", { name: other.name })}
          hint={t("link.presetHint")}
          value={theirs}
          onPick={setTheirs}
          options={presets(other)}
        />
      )}
    </FormDialog>
  );
}

/** Cameras within some metres that are not linked yet; each is taken over by one press. */
function SuggestDialog({ camera, onClose }: { camera: Camera; onClose: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const cameras = useCameras().data;
  const [max, setMax] = useState(String(NEAR_M));
  const max_m = Number(max);
  const query = useLinkSuggestions(max_m > 0 && max_m <= 100_000 ? max_m : NEAR_M);
  const take = async (other: string) => {
    try {
      await createLink({ camera_a: camera.id, camera_b: other, origin: "gps" });
      await queries.invalidateQueries({ queryKey: ["links"] });
      tell(t("done.added"));
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  return (
    <Dialog title={t("links.suggestTitle", { name: camera.name })} onClose={onClose}>
      <div className="flex flex-col gap-3">
        <Input
          label={t("links.maxDistance")}
          type="number"
          min={1}
          max={100_000}
          value={max}
          onChange={(event) => setMax(event.target.value)}
        />
        {camera.gps === null && <p className="text-warn">{t("links.noGps")}</p>}
        <Loaded query={query}>
          {(all) => {
            const near = all.filter(
              (each) => each.camera_a === camera.id || each.camera_b === camera.id,
            );
            if (near.length === 0) return <p className="text-muted">{t("links.noneNear")}</p>;
            return (
              <ul className="rounded-md border border-line">
                {near.map((each) => {
                  const other = otherOf(each, camera.id);
                  return (
                    <li
                      key={other}
                      className="flex items-center gap-2 border-b border-line/60 px-3 py-1.5 last:border-0"
                    >
                      <b>{cameras?.find((one) => one.id === other)?.name ?? other}</b>
                      <span className="text-muted">{metres(each.distance_m)}</span>
                      <Button small className="ml-auto" onClick={() => void take(other)}>
                        {t("action.add")}
                      </Button>
                    </li>
                  );
                })}
              </ul>
            );
          }}
        </Loaded>
      </div>
    </Dialog>
  );
}
