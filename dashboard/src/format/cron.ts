/** When a schedule repeats, between five cron fields and what a person chooses. Pure. */

export type Repeat =
  | { every: "hour"; minute: number }
  | { every: "day"; time: string }
  | { every: "workday"; time: string }
  | { every: "week"; day: Weekday; time: string }
  | { every: "month"; date: number; time: string }
  | { every: "cron"; cron: string };

export const WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export type Weekday = (typeof WEEKDAYS)[number];

/** As cron numbers and names them; 7 is Sunday too. */
const DAY_OF: Record<string, Weekday> = {
  "0": "sun", "1": "mon", "2": "tue", "3": "wed", "4": "thu", "5": "fri", "6": "sat", "7": "sun",
  ...(Object.fromEntries(WEEKDAYS.map((day) => [day, day])) as Record<Weekday, Weekday>),
};

export function cronOf(repeat: Repeat): string {
  if (repeat.every === "cron") return repeat.cron.trim().replace(/\s+/g, " ");
  if (repeat.every === "hour") return `${repeat.minute} * * * *`;
  const [hour = 0, minute = 0] = repeat.time.split(":").map(Number);
  const clock = `${minute} ${hour}`;
  if (repeat.every === "day") return `${clock} * * *`;
  if (repeat.every === "workday") return `${clock} * * mon-fri`;
  if (repeat.every === "week") return `${clock} * * ${repeat.day}`;
  return `${clock} ${repeat.date} * *`;
}

/** What it says where it is one of the simple ones; otherwise the expression itself. */
export function repeatOf(cron: string): Repeat {
  const free: Repeat = { every: "cron", cron };
  const fields = cron.trim().toLowerCase().split(/\s+/);
  const [minute = "", hour = "", date = "", month = "", day = ""] = fields;
  if (fields.length !== 5 || month !== "*" || !isBelow(minute, 60)) return free;
  if (hour === "*") {
    return date === "*" && day === "*" ? { every: "hour", minute: Number(minute) } : free;
  }
  if (!isBelow(hour, 24)) return free;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (date !== "*") {
    const good = day === "*" && isBelow(date, 32) && Number(date) > 0;
    return good ? { every: "month", date: Number(date), time } : free;
  }
  if (day === "*") return { every: "day", time };
  if (day === "mon-fri" || day === "1-5") return { every: "workday", time };
  const named = Object.hasOwn(DAY_OF, day) ? DAY_OF[day] : undefined;
  return named ? { every: "week", day: named, time } : free;
}

function isBelow(text: string, limit: number): boolean {
  return /^\d{1,2}$/.test(text) && Number(text) < limit;
}
