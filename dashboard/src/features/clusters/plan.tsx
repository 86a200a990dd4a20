/** What forming would do, step by step and on which hosts. Nothing has been done yet. */
import type { ClusterPlan } from "@/api/types";
import { useT } from "@/i18n/react";
import { Facts } from "@/ui/panel";

export function PlanView({ plan }: { plan: ClusterPlan }) {
  const t = useT();
  return (
    <section aria-label={t("cluster.planned")} className="flex flex-col gap-2">
      <Facts
        rows={[
          [t("cluster.kubernetes"), <code key="v" className="font-mono">{plan.kubernetes_version}</code>],
          [
            t("cluster.members"),
            plan.members
              .map((each) => `${each.node_name} (${t.code("cluster.role", each.role)})`)
              .join(", "),
          ],
        ]}
      />
      <ol className="list-decimal rounded-md border border-line bg-bg py-1.5 pr-3 pl-8">
        {plan.steps.map((step) => (
          <li key={step.name} className="py-0.5">
            {step.title}
            {step.hosts.length > 0 && (
              <span className="ml-2 text-xs text-muted">{step.hosts.join(", ")}</span>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}
