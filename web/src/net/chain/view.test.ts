import { getResultDecoder, getSessionDecoder, getStateDecoder } from "@worldline/client";
import { describe, expect, it } from "vitest";
import { Status } from "../../abi";
import { COUNTDOWN_MS, idText, resultView, sessionView, settledView } from "./view";

const blank = <T>(decoder: { decode(bytes: Uint8Array): T; fixedSize: number }): T => decoder.decode(new Uint8Array(decoder.fixedSize));
const book = () => {
  const made = blank(getSessionDecoder());
  return { ...made, session: { ...made.session, id: new TextEncoder().encode("K7WQ2M\0\0\0\0\0\0\0\0\0\0"), seats: Uint8Array.of(1, 3), characters: Uint8Array.of(0, 2) }, ready: Uint8Array.of(0, 1) };
};

describe("accounts as pages show them", () => {
  it("reads an id as people do", () => expect(idText(book().session.id)).toBe("K7WQ2M"));
  it("shows who sits where, and who is there", () => {
    const view = sessionView("A", book(), { ...blank(getStateDecoder()), status: Status.Active, frame: 1000 }, [900, 0], 0);
    expect(view.status).toBe("active");
    expect(view.code).toBe("K7WQ2M");
    expect(view.seats[0]).toEqual({ kind: "human", cpu: false, character: null, ready: false, connected: true });
    expect(view.seats[1]).toEqual({ kind: "random", cpu: true, character: 2, ready: true, connected: true });
    const away = sessionView("A", book(), { ...blank(getStateDecoder()), status: Status.Active, frame: 1000 }, [100, 0], 0);
    expect(away.seats[0].connected).toBe(false);
  });
  it("counts down between ready and the first frame", () => {
    const view = sessionView("A", book(), { ...blank(getStateDecoder()), status: Status.Active }, [0, 0], 1000);
    expect([view.status, view.starts_in_ms]).toEqual(["ready", COUNTDOWN_MS - 1000]);
  });
  it("has a result only once the match is over, and a replay only once it is whole", () => {
    const running = sessionView("A", book(), { ...blank(getStateDecoder()), status: Status.Active, frame: 1 }, [0, 0], 0);
    expect(running.result).toBeNull();
    const ended = sessionView("A", book(), { ...blank(getStateDecoder()), status: Status.Ended, winner: 2, endReason: 2 }, [0, 0], 0);
    expect(ended.result).toMatchObject({ winner: null, reason: "time", replay: null });
    const kept = blank(getResultDecoder());
    expect(resultView({ ...kept, replay: 1 }).replay).toBeNull();
    expect(resultView({ ...kept, replay: 2 }).replay).toBe(kept.session);
    expect(settledView(kept).status).toBe("ended");
  });
});
