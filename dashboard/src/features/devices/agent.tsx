/** What the device's agent says of itself: why it is silent, its clock, its cameras. */
import { ProblemError, toProblem } from "@/api/problem";
import { useAgent, useCameras } from "@/api/queries";
import { useT } from "@/i18n/react";
import { Facts, Panel } from "@/ui/panel";
import { ProblemNotice } from "@/ui/problem";
import { Loaded } from "@/ui/query";
import { Mark, State } from "@/ui/status";
import { Ago } from "@/ui/time";

export function AgentPanel({ device_id }: { device_id: string }) {
  const t = useT();
  const query = useAgent(device_id);
  const cameras = useCameras().data;
  return (
    <Panel title={t("agent.title")}>
      <Loaded query={query}>
        {(agent) => (
          <div className="flex flex-col gap-2">
            {agent.refusal && (
              <ProblemNotice error={new ProblemError(toProblem(agent.refusal, 403))} />
            )}
            <Facts
              rows={[
                [
                  t("field.state"),
                  <span key="s">
                    <State group="device.state" value={agent.presence} />{" "}
                    <span className="text-muted">
                      <Ago at={agent.presence_since} />
                    </span>
                  </span>,
                ],
                [t("agent.clock"), clockText(agent)],
                [t("agent.roundTrip"), ms(agent.rtt_ms)],
                [
                  t("agent.desired"),
                  agent.applied_revision === agent.desired_revision
                    ? t("agent.applied")
                    : t("agent.applying", {
                        applied: agent.applied_revision,
                        desired: agent.desired_revision,
                      }),
                ],
                [t("agent.media"), t(agent.media_running ? "agent.mediaOn" : "agent.mediaOff")],
              ]}
            />
            <ul>
              {agent.streams.map((stream) => (
                <li key={stream.camera_id} className="flex flex-wrap items-center gap-1.5">
                  <Mark tone={stream.online ? "ok" : "bad"} />
                  {cameras?.find((each) => each.id === stream.camera_id)?.name ?? stream.camera_id}
                  <span className="text-xs text-muted">
                    {stream.online
                      ? `${stream.codec} ${stream.width ?? "?"}×${stream.height ?? "?"}`
                      : stream.detail || stream.error}
                  </span>
                </li>
              ))}
            </ul>
          </div>
        )}
      </Loaded>
    </Panel>
  );

  function clockText(agent: { clock: string; clock_offset_ms: number | null }) {
    const offset = ms(agent.clock_offset_ms);
    return agent.clock === "ok" ? offset : `${offset} · ${t("result.clockUncertain")}`;
  }
}

function ms(value: number | null | undefined): string {
  return typeof value === "number" ? `${value.toFixed(1)} ms` : "–";
}
