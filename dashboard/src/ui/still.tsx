/**
 * A camera's still, read again every ~2 s while shown, with the newest boxes drawn over it.
 *
 * The next picture is decoded before it replaces the old one, so nothing flickers; a hidden tab
 * and a picture out of view ask for nothing.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import { boxColor, boxLabel, seenOf } from "@/format/boxes";
import type { Seen } from "@/api/types";
import { useT } from "@/i18n/react";
import { useTopic } from "@/stream/react";
import { cx } from "./cx";

export const STILL_EVERY_MS = 2000;
/** Boxes older than this are no longer about what is seen. */
const BOX_LIFE_MS = 3000;

export function Still({
  camera_id,
  name,
  available,
  className,
  big,
}: {
  camera_id: string;
  name: string;
  /** Whether anybody can take a picture: its device is connected. */
  available: boolean;
  className?: string;
  big?: boolean;
}) {
  const t = useT();
  const frame = useRef<HTMLDivElement>(null);
  const picture = useRef<HTMLDivElement>(null);
  const [missing, setMissing] = useState(false);
  const [ratio, setRatio] = useState(16 / 9);
  const visible = useVisible(frame);

  useEffect(() => {
    if (!visible || !available) return;
    let ended = false;
    let timer = 0;
    const next = () => {
      const image = new Image();
      image.className = "size-full object-contain";
      const again = (delay_ms: number) => {
        if (!ended) timer = window.setTimeout(next, delay_ms);
      };
      image.onload = () => {
        if (ended) return;
        // The loaded element itself is shown: setting its address elsewhere would ask again.
        picture.current?.replaceChildren(image);
        setMissing(false);
        if (image.naturalHeight > 0) setRatio(image.naturalWidth / image.naturalHeight);
        again(STILL_EVERY_MS);
      };
      image.onerror = () => {
        if (ended) return;
        setMissing(true);
        again(STILL_EVERY_MS * 3);
      };
      image.src = `/api/v1/cameras/${camera_id}/still?width=${stillWidth(frame.current)}&t=${Date.now()}`;
    };
    next();
    return () => {
      ended = true;
      window.clearTimeout(timer);
    };
  }, [camera_id, visible, available]);

  return (
    <div
      ref={frame}
      className={cx("relative w-full overflow-hidden bg-black", className)}
      style={{ aspectRatio: String(ratio) }}
    >
      <div
        ref={picture}
        role="img"
        aria-label={t("camera.stillAlt", { name })}
        className={cx("absolute inset-0", missing && "opacity-35")}
      />
      <Boxes camera_id={camera_id} big={big ?? false} />
      {(missing || !available) && (
        <p className="absolute inset-0 grid place-items-center bg-black/40 p-2 text-center text-sm text-white">
          {t(available ? "camera.noStill" : "camera.noDevice")}
        </p>
      )}
    </div>
  );
}

/** No more pixels than are shown; in steps, so that pictures of one size can be shared. */
function stillWidth(element: HTMLElement | null): number {
  const pixels = (element?.clientWidth ?? 640) * window.devicePixelRatio;
  return Math.min(1920, Math.max(320, Math.ceil(pixels / 320) * 320));
}

function Boxes({ camera_id, big }: { camera_id: string; big: boolean }) {
  const ref = useRef<HTMLCanvasElement>(null);
  const seen = useRef<{ boxes: Seen[]; at_ms: number }>({ boxes: [], at_ms: 0 });
  const draw = useCallback(() => {
    const canvas = ref.current;
    if (canvas) paint(canvas, seen.current.boxes, big);
  }, [big]);

  useTopic(`results:${camera_id}`, (message) => {
    seen.current = { boxes: seenOf(message.data), at_ms: Date.now() };
    draw();
  });
  useEffect(() => {
    const canvas = ref.current;
    if (!canvas) return;
    const resize = new ResizeObserver(draw);
    resize.observe(canvas);
    const timer = window.setInterval(() => {
      if (seen.current.boxes.length > 0 && Date.now() - seen.current.at_ms > BOX_LIFE_MS) {
        seen.current = { boxes: [], at_ms: 0 };
        draw();
      }
    }, 1000);
    return () => {
      resize.disconnect();
      window.clearInterval(timer);
    };
  }, [draw]);
  return <canvas ref={ref} aria-hidden className="absolute inset-0 size-full" />;
}

function paint(canvas: HTMLCanvasElement, boxes: Seen[], big: boolean): void {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const ratio = window.devicePixelRatio;
  const width = (canvas.width = Math.round(canvas.clientWidth * ratio));
  const height = (canvas.height = Math.round(canvas.clientHeight * ratio));
  const size = (big ? 13 : 11) * ratio;
  pen.font = `600 ${size}px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = "top";
  pen.lineWidth = (big ? 2 : 1.5) * ratio;
  for (const seen of boxes) {
    const [x, y, w, h] = seen.box;
    pen.strokeStyle = boxColor(seen.class);
    pen.strokeRect(x * width, y * height, w * width, h * height);
    const label = boxLabel(seen);
    const wide = pen.measureText(label).width + 6 * ratio;
    const top = Math.max(0, y * height - size - 4 * ratio);
    pen.fillStyle = boxColor(seen.class);
    pen.fillRect(x * width - pen.lineWidth / 2, top, wide, size + 4 * ratio);
    pen.fillStyle = "#071013";
    pen.fillText(label, x * width + 3 * ratio, top + 2 * ratio);
  }
}

function useVisible(ref: React.RefObject<HTMLElement | null>): boolean {
  const [inView, setInView] = useState(false);
  const [awake, setAwake] = useState(document.visibilityState === "visible");
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new IntersectionObserver(([entry]) => setInView(entry?.isIntersecting ?? false));
    observer.observe(element);
    const wake = () => setAwake(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", wake);
    return () => {
      observer.disconnect();
      document.removeEventListener("visibilitychange", wake);
    };
  }, [ref]);
  return inView && awake;
}
