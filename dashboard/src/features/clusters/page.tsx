/** One cluster: its nodes as they are now, what is at work on it, its proof once it is gone. */
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { updateAgents, useCluster, useClusterHealth, useClusterProof } from "@/api/clusters";
import { download } from "@/api/download";
import { problemOf } from "@/api/problem";
import type { Cluster } from "@/api/types";
import { useOperationsDrawer } from "@/features/operations/context";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Facts, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { State } from "@/ui/status";
import { Ago, Clock } from "@/ui/time";
import { tellError } from "@/ui/toast";
import { BackupsPanel } from "./backups";
import { CertificatesPanel } from "./certificates";
import { AddNodeDialog } from "./changes";
import { FindingLine } from "./check";
import { DeleteClusterDialog, RenameDialog } from "./dialogs";
import { MembersPanel } from "./members";
import { ProgressPanel } from "./progress";
import { ProofPanel } from "./proof";

type Open = "rename" | "delete" | "add" | null;

export function ClusterPage() {
  const t = useT();
  const { id } = useParams({ from: "/clusters/$id" });
  const cluster = useCluster(id);
  if (cluster.isError && problemOf(cluster.error).status === 404) {
    return <Empty title={t("cluster.gone")} hint={t("cluster.goneHint")} />;
  }
  return <Loaded query={cluster}>{(found) => <Content cluster={found} />}</Loaded>;
}

function Content({ cluster }: { cluster: Cluster }) {
  const t = useT();
  const operator = useMay("operator");
  const admin = useMay("admin");
  const { show } = useOperationsDrawer();
  const ready = cluster.state === "ready";
  const health = useClusterHealth(cluster.id, ready).data;
  const ended = cluster.state === "deleted" || cluster.state === "failed";
  const proof = useClusterProof(cluster.id, ended || cluster.members.some((each) => each.state === "gone"));
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const kubeconfig = async () => {
    try {
      await download(`/api/v1/clusters/${cluster.id}/kubeconfig`, `${cluster.name}.kubeconfig`);
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  const agents = async () => {
    try {
      show((await updateAgents(cluster.id)).operation_id);
    } catch (error) {
      tellError(error, t("error.title"));
    }
  };
  return (
    <Page
      above={<Link to="/clusters">{t("clusters.title")}</Link>}
      title={
        <>
          {cluster.name}
          <span className="flex items-center gap-4 text-base font-normal">
            <State group="cluster.state" value={cluster.state} />
            {ready && health && (
              <span className="inline-flex items-center gap-1.5 text-sm text-muted">
                {t("cluster.api")} <State group="cluster.api" value={health.api} />
              </span>
            )}
          </span>
        </>
      }
      actions={
        <>
          {operator && ready && (
            <Button tone="primary" onClick={() => setOpen("add")}>
              {t("cluster.addNode")}
            </Button>
          )}
          {admin && ready && (
            <Button onClick={() => void kubeconfig()}>{t("cluster.kubeconfig")}</Button>
          )}
          {operator && ready && <Button onClick={() => void agents()}>{t("cluster.updateAgents")}</Button>}
          {operator && !ended && (
            <Button onClick={() => setOpen("rename")}>{t("cluster.rename")}</Button>
          )}
          {operator && cluster.state !== "deleted" && (
            <Button tone="danger" onClick={() => setOpen("delete")}>
              {t("action.delete")}
            </Button>
          )}
        </>
      }
    >
      {health?.api === "away" && (
        <div role="alert" className="rounded-md border border-bad/50 bg-bad/10 px-3 py-2">
          <p className="font-semibold text-bad">
            {t("cluster.apiAway")} · <Ago at={health.api_since} />
          </p>
          <p>{t("cluster.apiAwayHint")}</p>
          {health.api_error && <p className="text-xs text-muted">{health.api_error}</p>}
        </div>
      )}
      {ready && health && health.findings.length > 0 && (
        <section
          role="alert"
          aria-label={t("cluster.lacking")}
          className="rounded-md border border-bad/50 bg-bad/10"
        >
          <p className="px-3 py-2 font-semibold text-bad">{t("cluster.lacking")}</p>
          {health.findings.map((finding) => (
            <FindingLine key={`${finding.code} ${finding.host}`} finding={finding} />
          ))}
        </section>
      )}
      <ProgressPanel cluster={cluster} />
      {proof.data && <ProofPanel proof={proof.data} members={cluster.members} whole={ended} />}
      <MembersPanel cluster={cluster} health={ready ? health : undefined} />
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_27rem]">
        <div className="flex min-w-0 flex-col gap-4">
          <BackupsPanel cluster={cluster} />
          {ready && <CertificatesPanel cluster={cluster} />}
        </div>
        <Panel title={t("cluster.facts")}>
          <Facts
            rows={[
              [t("cluster.kubernetes"), cluster.kubernetes_version || "–"],
              [t("cluster.apiName"), <code key="a" className="font-mono text-xs break-all">{cluster.api_name}</code>],
              [t("cluster.podCidr"), option(cluster, "pod_cidr")],
              [t("cluster.serviceCidr"), option(cluster, "service_cidr")],
              [t("cluster.source"), t.code("cluster.source", option(cluster, "source"))],
              [
                t("cluster.runAi"),
                t(cluster.options.run_ai_on_control_plane === true ? "cluster.yes" : "cluster.no"),
              ],
              [t("cluster.createdBy"), cluster.created_by],
              [t("cluster.createdAt"), <Clock key="c" at={cluster.created_at} full />],
              [t("cluster.formedAt"), cluster.formed_at ? <Clock key="f" at={cluster.formed_at} full /> : "–"],
              ...(cluster.ended_at
                ? [[t("cluster.endedAt"), <Clock key="e" at={cluster.ended_at} full />] as [string, React.ReactNode]]
                : []),
              ["ID", <code key="i" className="font-mono text-xs">{cluster.id}</code>],
            ]}
          />
        </Panel>
      </div>
      {open === "rename" && <RenameDialog cluster={cluster} onClose={close} />}
      {open === "delete" && <DeleteClusterDialog cluster={cluster} onClose={close} />}
      {open === "add" && <AddNodeDialog cluster={cluster} onClose={close} />}
    </Page>
  );
}

function option(cluster: Cluster, name: string): string {
  const value = cluster.options[name];
  return typeof value === "string" ? value : "–";
}
