/** Recorded frames in the game view: pause, step, speed, scrub. For replays and files. */
import { emptyState, FRAMES_PER_SECOND } from "../abi";
import { h, setText } from "../dom";
import { duration } from "../format";
import { actionName } from "../melee/actions";
import { createGame } from "../render/game";
import type { Leave } from "../router";
import { play as sound } from "../sound";
import { percentCurve, stockLosses, type Source } from "../source";
import { loop, onResize } from "../ui/loop";
import { soundSwitch } from "../ui/soundswitch";

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const SKIP = 5 * FRAMES_PER_SECOND;
const CURVE_POINTS = 240;
/** Percent at the top of the curve. */
const CURVE_TOP = 180;

function curveSvg(source: Source): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", `0 0 ${CURVE_POINTS} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const curve = percentCurve(source, CURVE_POINTS);
  for (let seat = 0; seat < 2; seat++) {
    let d = "";
    for (let i = 0; i < CURVE_POINTS; i++) d += `${i === 0 ? "M" : "L"}${i} ${(39 - (Math.min(CURVE_TOP, curve[seat * CURVE_POINTS + i]) / CURVE_TOP) * 37).toFixed(1)}`;
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", d);
    path.setAttribute("class", `p${seat + 1}`);
    svg.appendChild(path);
  }
  for (const { index, seat } of stockLosses(source)) {
    const mark = document.createElementNS(space, "path");
    const x = ((index / Math.max(1, source.length - 1)) * CURVE_POINTS).toFixed(1);
    mark.setAttribute("d", `M${x} 0V40`);
    mark.setAttribute("class", `loss p${seat + 1}`);
    svg.appendChild(mark);
  }
  return svg;
}

export interface Playback { element: HTMLElement; seek(index: number): void; close: Leave }

export function playback(source: Source, extras: Node[]): Playback {
  const last = source.length - 1;
  const state = emptyState();
  let position = 0;
  let shown = -1;
  let playing = true;
  let speed = 1;
  let before = 0;

  const canvas = h("canvas", { class: "game", "aria-label": "The replay" });
  const play = h("button", { class: "plain play", onclick: () => toggle() }, "Pause");
  const scrub = h("input", { type: "range", min: 0, max: last, value: 0, step: 1, "aria-label": "Frame", oninput: () => { pause(); seek(Number(scrub.value)); } });
  const at = h("b", null, "");
  const doing = h("span", { class: "doing" }, "");
  const rate = h("select", { "aria-label": "Speed", onchange: () => { speed = Number(rate.value); } }, SPEEDS.map((value) => h("option", { value, selected: value === 1 }, `${value} ×`)));
  const element = h("div", { class: "arena playback" },
    h("div", { class: "tube" }, canvas),
    h("div", { class: "timeline" }, curveSvg(source), scrub),
    h("div", { class: "strip" },
      play,
      h("button", { class: "plain", "aria-label": "One frame back", onclick: () => step(-1) }, "◂|"),
      h("button", { class: "plain", "aria-label": "One frame on", onclick: () => step(1) }, "|▸"),
      h("label", null, "speed ", rate), h("span", null, "frame ", at), doing, h("span", { class: "grow" }), soundSwitch(), extras));
  const game = createGame(canvas, { hud: true, hear: (cues) => { if (playing) sound(cues); } });

  function draw(): void {
    const index = Math.floor(position);
    if (index === shown) return;
    shown = index;
    source.read(index, state);
    game.show(state);
    scrub.value = String(index);
    setText(at, `${state.frame} / ${duration(index)}`);
    setText(doing, `${actionName(state.players[0].action)} · ${actionName(state.players[1].action)}`);
  }
  function pause(): void { playing = false; setText(play, "Play"); }
  function toggle(): void {
    if (!playing && position >= last) seek(0);
    playing = !playing;
    setText(play, playing ? "Pause" : "Play");
  }
  function seek(index: number): void { position = Math.max(0, Math.min(last, index)); draw(); }
  function step(by: number): void { pause(); seek(Math.floor(position) + by); }

  function key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target instanceof HTMLElement && /^(INPUT|SELECT|BUTTON|A)$/.test(event.target.tagName))) return;
    const keys: Record<string, () => void> = {
      Space: toggle, KeyK: toggle, Comma: () => step(-1), Period: () => step(1),
      ArrowLeft: () => seek(position - SKIP), ArrowRight: () => seek(position + SKIP), Home: () => seek(0), End: () => seek(last),
    };
    const action = keys[event.code];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }
  window.addEventListener("keydown", key);

  const stop = loop((now) => {
    const passed = before === 0 ? 0 : Math.min(100, now - before);
    before = now;
    if (playing) {
      let frames = (passed * FRAMES_PER_SECOND * speed) / 1000;
      // A display of about 60 Hz gets exactly one frame a tick.
      if (speed === 1 && Math.abs(frames - 1) < 0.2) frames = 1;
      position = Math.min(last, position + frames);
      if (position >= last) pause();
    }
    draw();
  });
  const unfit = onResize(canvas, () => game.resize());
  return {
    element,
    seek,
    close() {
      stop();
      unfit();
      window.removeEventListener("keydown", key);
    },
  };
}
