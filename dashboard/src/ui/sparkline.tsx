/** A tiny line on a canvas: cheap enough to redraw once a second for every device of a site. */
import { useEffect, useRef } from "react";

export function Sparkline({
  values,
  color,
  max = 1,
  slots = 60,
  label,
}: {
  values: (number | null)[];
  color: string;
  max?: number;
  slots?: number;
  label: string;
}) {
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const canvas = ref.current;
    const pen = canvas?.getContext("2d");
    if (!canvas || !pen) return;
    const ratio = window.devicePixelRatio;
    const width = canvas.clientWidth * ratio;
    const height = canvas.clientHeight * ratio;
    canvas.width = width;
    canvas.height = height;
    const stroke = getComputedStyle(canvas).getPropertyValue(color).trim() || color;
    const shown = values.slice(-slots);
    const step = width / Math.max(1, slots - 1);
    const left = width - (shown.length - 1) * step;
    const y = (value: number) => height - 1 - (Math.min(value, max) / max) * (height - 2);
    pen.lineWidth = 1.25 * ratio;
    pen.strokeStyle = stroke;
    pen.beginPath();
    let down = false;
    shown.forEach((value, index) => {
      if (value === null) {
        down = false;
        return;
      }
      const x = left + index * step;
      if (down) pen.lineTo(x, y(value));
      else pen.moveTo(x, y(value));
      down = true;
    });
    pen.stroke();
    if (shown.length > 1 && !shown.includes(null)) {
      pen.lineTo(width, height);
      pen.lineTo(left, height);
      pen.closePath();
      pen.globalAlpha = 0.14;
      pen.fillStyle = stroke;
      pen.fill();
    }
  }, [values, color, max, slots]);
  return <canvas ref={ref} role="img" aria-label={label} className="h-8 w-full" />;
}
