import { useState } from "react";
import { useDeployments } from "@/api/queries";
import { DeployDialog } from "@/features/packages/deploy";
import { useT } from "@/i18n/react";
import { useMay } from "@/shell/role";
import { Button } from "@/ui/button";
import { Empty, Page, Panel } from "@/ui/panel";
import { Loaded } from "@/ui/query";
import { DeploymentTable } from "./table";

export function DeploymentsPage() {
  const t = useT();
  const deployments = useDeployments();
  const operator = useMay("operator");
  const [deploying, setDeploying] = useState(false);
  const deploy = operator && (
    <Button tone="primary" onClick={() => setDeploying(true)}>
      {t("deploy.title")}
    </Button>
  );
  return (
    <Page title={t("deployments.title")} actions={deploy}>
      <Panel flush>
        <Loaded query={deployments}>
          {(rows) => (
            <DeploymentTable
              deployments={rows}
              empty={
                <Empty title={t("deployments.empty")} hint={t("deployments.emptyHint")} action={deploy} />
              }
            />
          )}
        </Loaded>
      </Panel>
      {deploying && <DeployDialog onClose={() => setDeploying(false)} />}
    </Page>
  );
}
