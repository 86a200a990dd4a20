/**
 * uPlot for time series. Draws the marks (deployments) itself and follows the theme's colours.
 * Data comes in as columns; the component never fetches.
 */
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import type { ChartMark } from "@/format/series";
import { clockTime } from "@/format/time";
import { useLanguage } from "@/i18n/react";
import { useZone } from "./time";

export type ChartSeries = { name: string; color: string; fill?: boolean };

type Props = {
  label: string;
  data: [number[], ...(number | null)[][]];
  series: ChartSeries[];
  marks?: ChartMark[];
  /** Shown range in seconds since the epoch. */
  range: [from_s: number, to_s: number];
  format: (value: number) => string;
  max?: number;
  height?: number;
  bars?: boolean;
};

export const PALETTE = ["#43bdb3", "#6ea8fe", "#e5b04a", "#c58af9", "#f0655c", "#8bd17c", "#f28cb1"];

export function Chart(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  const language = useLanguage();
  const zone = useZone();
  const { series, bars, height = 180, max } = props;
  const shape = JSON.stringify([series, bars, height, max, language, zone]);

  useEffect(() => {
    latest.current = props;
    const chart = plot.current;
    if (!chart) return;
    chart.batch(() => {
      chart.setData(props.data as uPlot.AlignedData, false);
      chart.setScale("x", { min: props.range[0], max: props.range[1] });
    });
  });

  useEffect(() => {
    const target = box.current;
    if (!target) return;
    const chart = new uPlot(
      options(latest, target.clientWidth, language, zone),
      latest.current.data as uPlot.AlignedData,
      target,
    );
    plot.current = chart;
    const resize = new ResizeObserver(() => {
      if (target.clientWidth > 0) {
        chart.setSize({ width: target.clientWidth, height: latest.current.height ?? 180 });
      }
    });
    resize.observe(target);
    return () => {
      resize.disconnect();
      chart.destroy();
      plot.current = null;
    };
    // `shape` stands for what makes a new plot necessary.
  }, [shape, language, zone]);

  return (
    <figure aria-label={props.label}>
      <div ref={box} className="w-full overflow-hidden" style={{ height }} />
      <figcaption className="flex flex-wrap gap-x-4 gap-y-0.5 px-1 text-xs text-muted">
        {series.map((each, index) => (
          <span key={each.name} className="inline-flex items-center gap-1.5">
            <span className="inline-block h-0.5 w-4" style={{ background: each.color }} />
            {each.name}
            <b className="font-medium text-text tabular-nums">
              {lastValue(props.data[index + 1], props.format)}
            </b>
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

function lastValue(column: (number | null)[] | undefined, format: (value: number) => string) {
  const value = column?.at(-1);
  return value === null || value === undefined ? "–" : format(value);
}

function options(
  latest: { current: Props },
  width: number,
  language: "ko" | "en",
  zone: string,
): uPlot.Options {
  const css = getComputedStyle(document.documentElement);
  const color = (name: string) => css.getPropertyValue(name).trim();
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const { series, format, max, height = 180, bars } = latest.current;
  const axis = {
    stroke: color("--c-muted"),
    font,
    grid: { stroke: color("--c-line"), width: 1 },
    ticks: { show: false },
  };
  const paths = bars ? uPlot.paths.bars?.({ size: [0.8, 40], align: 1 }) : undefined;
  return {
    width: Math.max(width, 50),
    height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    padding: [18, 8, 0, 0],
    scales: {
      x: { time: true },
      y: { range: (_, __, top) => [0, max ?? niceTop(top)] },
    },
    axes: [
      {
        ...axis,
        space: 80,
        size: 26,
        values: (_, ticks) => ticks.map((tick) => clockTime(tick * 1000, language, zone)),
      },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...series.map(
        (each): uPlot.Series => ({
          label: each.name,
          stroke: each.color,
          width: bars ? 0 : 1.5,
          points: { show: false },
          spanGaps: false,
          ...(each.fill || bars ? { fill: `${each.color}${bars ? "cc" : "22"}` } : {}),
          ...(paths ? { paths } : {}),
        }),
      ),
    ],
    hooks: { draw: [(chart) => drawMarks(chart, latest.current.marks ?? [], color, font)] },
  };
}

function niceTop(top: number): number {
  return top > 0 ? top * 1.15 : 1;
}

function drawMarks(
  chart: uPlot,
  marks: ChartMark[],
  color: (name: string) => string,
  font: string,
): void {
  const { ctx, bbox } = chart;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = font.replace("11px", `${11 * ratio}px`);
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let edge = Number.NEGATIVE_INFINITY;
  let row = 0;
  for (const mark of [...marks].sort((a, b) => a.at_s - b.at_s)) {
    const x = Math.round(chart.valToPos(mark.at_s, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = color(mark.tone === "start" ? "--c-warn" : "--c-muted");
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - 14 * ratio);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const wide = ctx.measureText(mark.label).width;
    // Labels that would run into each other go one line lower.
    row = x < edge ? row + 1 : 0;
    const left = x + wide + 8 * ratio > bbox.left + bbox.width ? x - wide - 4 * ratio : x + 4 * ratio;
    ctx.fillText(mark.label, left, bbox.top - 15 * ratio + row * 13 * ratio);
    edge = Math.max(edge, left + wide + 6 * ratio);
  }
  ctx.restore();
}
