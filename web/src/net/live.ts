/** One live match over WebSocket: reconnects by itself, says in words what is wrong. */
import { FRAME_MESSAGE_BYTES, hex, INPUT_MESSAGE_BYTES, PAD_BYTES, SLOT_BYTES, STATE_BYTES, writePad, type Pad } from "../abi";
import { words, type MatchView, type ResultView } from "./api";
import type { HeldSeat } from "./seats";
import { newSigner, unhex } from "./signing";

const PING_MS = 1000;
const RETRY_FIRST_MS = 400;
const RETRY_MOST_MS = 5000;
const MOST_WAITING = 8;
const FRAME_KIND = 1;
const INPUT_KIND = 1;
const SLOTS_AT = 4 + STATE_BYTES;

export type Link = "connecting" | "open" | "lost" | "closed";

export interface LiveEvents {
  view(view: MatchView): void;
  /** A frame: the whole message, owned by the receiver. */
  frame(message: ArrayBuffer): void;
  result(result: ResultView): void;
  rematch(session: string): void;
  error(code: string, detail: string): void;
  /** What is amiss for as long as it is, in words; empty once it is not. */
  trouble(detail: string): void;
  link(link: Link, detail: string): void;
}

export interface Live {
  send(message: Record<string, unknown>): void;
  pad(pad: Pad): void;
  /** Round trip in milliseconds, smoothed; NaN before the first answer. */
  latency(): number;
  close(): void;
}

interface ServerMessage {
  type: string;
  session?: string;
  frame?: number;
  input_hash?: string;
  t?: number;
  error_code?: string;
  detail?: string;
}

/** Errors after which trying again cannot help. */
const FINAL = new Set(["unknown_session", "bad_token", "no_access"]);
/** A mark that is signed already (after a reload, say) is no news for the player. */
const SIGNED_ALREADY = "no_mark";

export function connect(session: string, held: HeldSeat | null, events: LiveEvents): Live {
  const signer = held === null ? null : newSigner(session, held.seat, held.secret);
  const input = new Uint8Array(INPUT_MESSAGE_BYTES);
  const inputView = new DataView(input.buffer);
  let socket: WebSocket | null = null;
  let retry = RETRY_FIRST_MS;
  let timer = 0;
  let pinger = 0;
  let closed = false;
  let refused = false;
  let signing = true;
  let sequence = 0;
  let round = NaN;
  const waiting: string[] = [];

  function url(): string {
    const base = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/sessions/${encodeURIComponent(session)}/ws`;
    return held === null ? base : `${base}?token=${encodeURIComponent(held.token)}`;
  }

  /** What is said while the line is down is said when it is up again. */
  function send(message: Record<string, unknown>): void {
    const text = JSON.stringify(message);
    if (socket?.readyState === WebSocket.OPEN) socket.send(text);
    else if (waiting.length < MOST_WAITING) waiting.push(text);
  }

  function frame(message: ArrayBuffer): void {
    if (message.byteLength !== FRAME_MESSAGE_BYTES || new Uint8Array(message)[0] !== FRAME_KIND) {
      events.error("bad_frame", `The arcade sent ${message.byteLength} bytes that are no frame of this version. Reload the page.`);
      return;
    }
    if (signer !== null && held !== null && signing) {
      const view = new DataView(message);
      const number = view.getUint32(4 + 4, true);
      if (number > 0) {
        try {
          const signature = signer.applied(number, new Uint8Array(message, SLOTS_AT + held.seat * SLOT_BYTES, SLOT_BYTES));
          if (signature !== null) send({ type: "sign", frame: number, signature });
        } catch (error) {
          signing = false;
          events.error("signing_stopped", words(error));
        }
      }
    }
    events.frame(message);
  }

  function text(data: string): void {
    let message: ServerMessage;
    try {
      message = JSON.parse(data) as ServerMessage;
    } catch {
      events.error("bad_message", "The arcade sent something that is not JSON. Reload the page.");
      return;
    }
    switch (message.type) {
      case "session": events.view(message as unknown as MatchView); break;
      case "result": {
        const last = signing ? signer?.finish() : null;
        if (last !== null && last !== undefined) send({ type: "sign", ...last });
        events.result(message as unknown as ResultView);
        break;
      }
      case "rematch": if (message.session !== undefined) events.rematch(message.session); break;
      case "resume":
        if (signer !== null && message.frame !== undefined && message.input_hash !== undefined) {
          signer.resume(message.frame, unhex(message.input_hash));
          signing = true;
        }
        break;
      case "pong": if (message.t !== undefined) {
        const sample = performance.now() - message.t;
        round = Number.isNaN(round) ? sample : round * 0.7 + sample * 0.3;
      } break;
      case "error": {
        const code = message.error_code ?? "error";
        if (code === SIGNED_ALREADY) break;
        if (FINAL.has(code)) refused = true;
        events.error(code, message.detail ?? "The arcade refused that.");
        break;
      }
    }
  }

  function open(): void {
    if (closed) return;
    events.link("connecting", "Connecting to the arcade …");
    const current = new WebSocket(url());
    socket = current;
    current.binaryType = "arraybuffer";
    current.onopen = () => {
      retry = RETRY_FIRST_MS;
      events.link("open", "");
      for (const text of waiting.splice(0)) current.send(text);
      pinger = window.setInterval(() => send({ type: "ping", t: performance.now() }), PING_MS);
    };
    current.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      if (typeof event.data === "string") text(event.data);
      else frame(event.data);
    };
    current.onclose = () => {
      window.clearInterval(pinger);
      round = NaN;
      if (closed) return;
      if (refused) { events.link("closed", "The arcade closed this connection."); return; }
      events.link("lost", `Connection lost. Trying again in ${(retry / 1000).toFixed(1)} s; your seat is kept for you.`);
      timer = window.setTimeout(open, retry);
      retry = Math.min(RETRY_MOST_MS, retry * 1.8);
    };
  }

  open();
  return {
    send,
    pad(pad) {
      if (socket?.readyState !== WebSocket.OPEN || held === null) return;
      sequence = (sequence + 1) & 0xffff;
      input[0] = INPUT_KIND;
      inputView.setUint16(2, sequence, true);
      writePad(inputView, INPUT_MESSAGE_BYTES - PAD_BYTES, pad);
      signer?.sent(sequence, input.subarray(INPUT_MESSAGE_BYTES - PAD_BYTES));
      socket.send(input);
    },
    latency: () => round,
    close() {
      closed = true;
      window.clearTimeout(timer);
      window.clearInterval(pinger);
      socket?.close();
    },
  };
}

/** A short fingerprint of the state chain in a frame message. */
export function chainTag(message: DataView): string {
  return hex(new Uint8Array(message.buffer, message.byteOffset + 4 + 224, 4));
}
