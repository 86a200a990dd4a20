import { describe, expect, it } from "vitest";
import { gpsText, parseGps } from "@/format/gps";

describe("gps", () => {
  it("reads what maps give to copy, and writes it so", () => {
    expect(parseGps("37.5665, 126.9780")).toEqual({ latitude: 37.5665, longitude: 126.978 });
    expect(parseGps(" -33.9,+18 ")).toEqual({ latitude: -33.9, longitude: 18 });
    expect(gpsText({ latitude: 37.5, longitude: 127 })).toBe("37.5, 127");
    expect(parseGps(gpsText({ latitude: 1.25, longitude: -2 }))).toEqual({ latitude: 1.25, longitude: -2 });
  });

  it.each(["", "37.5", "a, b", "37.5, ", "1, 2, 3"])("takes %j for no coordinates", (text) => {
    expect(parseGps(text)).toBeNull();
  });
});
