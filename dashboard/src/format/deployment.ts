/** What is shown of a deployment: what haechi did with it, and what the device sees. Pure. */
import type { Deployment } from "@/api/types";

/**
 * One word for it. A deployment that runs is as well as its device says it is; before and after
 * that, haechi's own state says more.
 */
export function standing(
  deployment: Pick<Deployment, "state" | "outcome" | "observed_state" | "restarts">,
): string {
  if (deployment.outcome) return deployment.outcome;
  if (deployment.state !== "running") return deployment.state;
  return deployment.observed_state;
}
