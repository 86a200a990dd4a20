/** Whether a node is there, and why not as far as that is known. */
import type { NodeHealth } from "@/api/types";
import { State } from "@/ui/status";

export function Presence({ node }: { node: NodeHealth | undefined }) {
  if (!node) return <>–</>;
  const well = node.presence === "ok" && node.reason === "connected";
  return (
    <div>
      <State group="device.state" value={node.presence} />
      {!well && (
        <div className="max-w-96 text-xs">
          <p>{node.reason_text}</p>
          {node.remedy && <p className="text-muted">→ {node.remedy}</p>}
          {node.detail && <p className="font-mono text-2xs break-words text-muted">{node.detail}</p>}
        </div>
      )}
    </div>
  );
}
