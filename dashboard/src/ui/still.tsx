/**
 * A camera's still, read again every ~2 s while shown, with boxes drawn over it.
 *
 * Picture and boxes share one canvas, so they cannot slip against each other, and the boxes are
 * those of the picture's own moment: results arrive later than the frame that they are about. A
 * hidden tab and a picture out of view ask for nothing.
 */
import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { problemOf } from "@/api/problem";
import { readStill } from "@/api/still";
import { boxColor, boxLabel, closest, contain, type Moment, momentOf, remember } from "@/format/boxes";
import { useT } from "@/i18n/react";
import { useTopic } from "@/stream/react";
import { cx } from "./cx";

export const STILL_EVERY_MS = 2000;
const AFTER_FAILURE_MS = 6000;
const DEFAULT_RATIO = 16 / 9;

type Picture = { bitmap: ImageBitmap; at_ms: number | null };

export function Still({
  camera_id,
  name,
  available,
  className,
  maxHeight,
  big = false,
}: {
  camera_id: string;
  name: string;
  /** Whether anybody can take a picture: its device is connected. */
  available: boolean;
  className?: string;
  /** As CSS; a picture that is cut so is shown whole, with bars at its sides. */
  maxHeight?: string;
  big?: boolean;
}) {
  const t = useT();
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const picture = useRef<Picture | null>(null);
  const moments = useRef<Moment[]>([]);
  const [failure, setFailure] = useState<string | null>(null);
  const [ratio, setRatio] = useState(DEFAULT_RATIO);
  const visible = useVisible(frame);

  const draw = useCallback(() => {
    if (canvas.current) paint(canvas.current, picture.current, moments.current, big);
  }, [big]);

  useTopic(available ? `results:${camera_id}` : null, (message) => {
    const moment = momentOf(message.data);
    if (!moment) return;
    moments.current = remember(moments.current, moment);
    draw();
  });

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const resize = new ResizeObserver(draw);
    resize.observe(element);
    return () => resize.disconnect();
  }, [draw]);

  useEffect(() => {
    if (!visible || !available) return;
    const abort = new AbortController();
    let timer = 0;
    const next = async () => {
      let wait_ms = STILL_EVERY_MS;
      try {
        const shown = await readStill(camera_id, stillWidth(frame.current), abort.signal);
        picture.current?.bitmap.close();
        picture.current = shown;
        setFailure(null);
        setRatio(shown.bitmap.width / shown.bitmap.height);
        draw();
      } catch (error) {
        if (abort.signal.aborted) return;
        wait_ms = AFTER_FAILURE_MS;
        setFailure(problemOf(error).detail);
      }
      if (!abort.signal.aborted) timer = window.setTimeout(() => void next(), wait_ms);
    };
    void next();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [camera_id, visible, available, draw]);

  const blind = failure !== null || !available;
  return (
    <div
      ref={frame}
      className={cx("relative w-full overflow-hidden bg-black", className)}
      style={{ aspectRatio: String(ratio), maxHeight }}
    >
      <canvas
        ref={canvas}
        role="img"
        aria-label={t("camera.stillAlt", { name })}
        className={cx("absolute inset-0 size-full", blind && "opacity-30")}
      />
      {blind && (
        <p className="absolute inset-0 grid place-items-center p-3 text-center text-sm text-white">
          {available ? failure || t("camera.noStill") : t("camera.noDevice")}
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

function paint(
  canvas: HTMLCanvasElement,
  picture: Picture | null,
  moments: Moment[],
  big: boolean,
): void {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const scale = window.devicePixelRatio;
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.clientHeight * scale);
  if (!picture) return;
  const { bitmap, at_ms } = picture;
  const area = contain(bitmap.width, bitmap.height, canvas.width, canvas.height);
  pen.drawImage(bitmap, area.x, area.y, area.width, area.height);
  const size = (big ? 13 : 11) * scale;
  pen.font = `600 ${size}px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = "top";
  pen.lineWidth = (big ? 2 : 1.5) * scale;
  for (const seen of closest(moments, at_ms)?.seen ?? []) {
    const [x, y, width, height] = seen.box;
    const left = area.x + x * area.width;
    const top = area.y + y * area.height;
    pen.strokeStyle = pen.fillStyle = boxColor(seen.class);
    pen.strokeRect(left, top, width * area.width, height * area.height);
    const label = boxLabel(seen);
    const above = Math.max(area.y, top - size - 4 * scale);
    const wide = pen.measureText(label).width + 6 * scale;
    pen.fillRect(left - pen.lineWidth / 2, above, wide, size + 4 * scale);
    pen.fillStyle = "#071013";
    pen.fillText(label, left + 3 * scale, above + 2 * scale);
  }
}

function useVisible(ref: RefObject<HTMLElement | null>): boolean {
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
