/** One camera in the grid: picture, boxes, and who analyses it. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Camera, Deployment, Seen } from "@/api/types";
import { countClasses, seenOf } from "@/format/boxes";
import { useT } from "@/i18n/react";
import { useTopic } from "@/stream/react";
import { Mark, toneOf } from "@/ui/status";
import { Still } from "@/ui/still";

export function CameraTile({
  camera,
  watched,
  available,
  maxHeight,
}: {
  camera: Camera;
  watched: Deployment[];
  available: boolean;
  maxHeight: string;
}) {
  const t = useT();
  const [seen, setSeen] = useState<Seen[] | null>(null);
  useTopic(`results:${camera.id}`, (message) => setSeen(seenOf(message.data)));
  const counts = countClasses(seen ?? []);
  return (
    <Link
      to="/cameras/$id"
      params={{ id: camera.id }}
      className="group flex min-w-0 flex-col bg-panel focus-visible:z-1"
    >
      <Still camera_id={camera.id} name={camera.name} available={available} maxHeight={maxHeight} />
      <div className="flex items-center gap-2 px-2.5 py-1.5">
        <Mark tone={toneOf(camera.state)} />
        <span className="truncate font-medium group-hover:underline">{camera.name}</span>
        <span className="ml-auto truncate text-xs text-muted">
          {watched.length === 0
            ? t("camera.unwatched")
            : seen === null
              ? t("camera.noResultYet")
              : counts.length === 0
                ? t("camera.nothingSeen")
                : counts.map(([name, count]) => `${name} ${count}`).join(" · ")}
        </span>
      </div>
    </Link>
  );
}
