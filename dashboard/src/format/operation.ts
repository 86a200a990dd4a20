import type { OperationState } from "@/api/types";

const ENDED: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

export function isEnded(state: OperationState): boolean {
  return ENDED.has(state);
}
