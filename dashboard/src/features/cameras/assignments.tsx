/** Which AI looks at which camera; shown on camera and device pages. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { endAssignment } from "@/api/actions";
import { useCameras, useDeployments } from "@/api/queries";
import type { Assignment } from "@/api/types";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { FormDialog } from "@/ui/dialog";
import { Chip } from "@/ui/status";
import { type Column, Table } from "@/ui/table";
import { tell } from "@/ui/toast";
import { MoveDialog } from "./dialogs";

export function AssignmentTable({
  assignments,
  without,
  empty,
}: {
  assignments: Assignment[];
  without?: "camera" | "device";
  empty: ReactNode;
}) {
  const t = useT();
  const queries = useQueryClient();
  const cameras = useCameras().data;
  const deployments = useDeployments().data;
  const operator = useMay("operator");
  const [moving, setMoving] = useState<Assignment | null>(null);
  const [ending, setEnding] = useState<Assignment | null>(null);
  const cameraName = (id: string) => cameras?.find((each) => each.id === id)?.name ?? id;
  const columns = useMemo<Column<Assignment>[]>(() => {
    const deploymentOf = (row: Assignment) =>
      deployments?.find((each) => each.id === row.deployment_id);
    const all: Column<Assignment>[] = [
      {
        id: "camera",
        name: t("field.camera"),
        cell: (row) => (
          <Link to="/cameras/$id" params={{ id: row.camera_id }} className="font-medium hover:underline">
            {cameras?.find((each) => each.id === row.camera_id)?.name ?? row.camera_id}
          </Link>
        ),
      },
      {
        id: "device",
        name: t("field.device"),
        cell: (row) => {
          const deployment = deploymentOf(row);
          return deployment ? (
            <Link to="/devices/$id" params={{ id: deployment.device_id }} className="hover:underline">
              {deployment.device_name}
            </Link>
          ) : (
            "–"
          );
        },
      },
      {
        id: "ai",
        name: "AI",
        cell: (row) => {
          const deployment = deploymentOf(row);
          return deployment ? `${deployment.package_name}:${deployment.version}` : row.deployment_id;
        },
      },
      {
        id: "mode",
        name: t("assign.mode"),
        cell: (row) => (
          <span className="inline-flex gap-1">
            <Chip>{t.code("assignment.mode", row.mode)}</Chip>
            {row.state === "trial" && <Chip tone="info">{t("assignment.trial")}</Chip>}
          </span>
        ),
      },
      {
        id: "fps",
        name: t("assign.fps"),
        cell: (row) => `${row.fps} · ${t.code("assign", row.stream)}`,
      },
      { id: "epoch", name: t("assign.epoch"), cell: (row) => row.epoch },
      {
        id: "actions",
        name: "",
        className: "text-right",
        cell: (row) =>
          operator && (
            <span className="inline-flex gap-1.5">
              <Button small onClick={() => setMoving(row)}>
                {t("assign.move")}
              </Button>
              <Button small tone="ghost" onClick={() => setEnding(row)}>
                {t("assign.end")}
              </Button>
            </span>
          ),
      },
    ];
    return all.filter((column) => column.id !== without);
  }, [t, cameras, deployments, operator, without]);
  return (
    <>
      <Table
        label={t("assignments.title")}
        rows={assignments}
        columns={columns}
        rowKey={(row) => row.id}
        empty={empty}
      />
      {moving && (
        <MoveDialog
          assignment={moving}
          name={cameraName(moving.camera_id)}
          onClose={() => setMoving(null)}
        />
      )}
      {ending && (
        <FormDialog
          title={t("assign.endTitle")}
          action={t("assign.end")}
          tone="danger"
          onClose={() => setEnding(null)}
          submit={async () => {
            await endAssignment(ending.id);
            await queries.invalidateQueries({ queryKey: ["assignments"] });
            tell(t("done.ended"));
          }}
        >
          <p>{t("assign.endHint", { name: cameraName(ending.camera_id) })}</p>
        </FormDialog>
      )}
    </>
  );
}
