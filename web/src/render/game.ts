/** The game view: one call to `show` per new frame, which paints it. No allocation on that way. */
import type { State } from "../abi";
import { prefersReducedMotion } from "../dom";
import { stageById } from "../melee/stages";
import { follow, newCamera } from "./camera";
import { clearEffects, drawEffects, newEffects, noise, stepEffects } from "./effects";
import { drawFighter, drawTrail, newFighter, resetFighter, stepFighter } from "./fighter";
import { drawHud, hudHeight, type Seats } from "./hud";
import { INK, PLAYERS } from "./palette";
import { drawScenery, followPlatforms, newScenery } from "./scenery";

/** A jump of more frames than this is a seek: trails and poses start anew. */
const SEEK = 12;
const MAX_RATIO = 2;
/** Larger canvases are drawn at fewer pixels and scaled up. */
const MOST_PIXELS = 2560 * 1440;
const SHAKE_PIXELS = 11;

export interface GameView {
  /** Paints a state. Frames that follow each other animate; others snap. */
  show(state: State): void;
  /** Fits the canvas to its box and paints again. */
  resize(): void;
  setSeats(seats: Seats | null): void;
}

export interface GameOptions {
  /** Percent, stocks and clock on the tube. */
  hud: boolean;
  /** Share of the height at the bottom that is kept free where there are no readouts. */
  reserve?: number;
  /** Is told what there is to hear, see `Cue`. */
  hear?: (cues: number) => void;
}

export function createGame(canvas: HTMLCanvasElement, options: GameOptions): GameView {
  const context = canvas.getContext("2d", { alpha: false, desynchronized: true });
  if (context === null) throw new Error("This browser gives no 2D canvas; the game cannot be drawn.");
  const ctx = context;
  const camera = newCamera();
  const effects = newEffects();
  const fighters = [newFighter(0), newFighter(1)];
  let stage = -1;
  let scenery = newScenery(stageById(stage));
  let seats: Seats | null = null;
  let ratio = 1;
  let lastFrame = -1;
  let lastState: State | null = null;

  function paint(state: State): void {
    const width = canvas.width, height = canvas.height;
    const line = (1.15 * ratio) / camera.scale;
    let sx = 0, sy = 0;
    if (effects.shake > 0.02 && !prefersReducedMotion()) {
      sx = (noise(effects) * 2 - 1) * effects.shake * SHAKE_PIXELS * ratio;
      sy = (noise(effects) * 2 - 1) * effects.shake * SHAKE_PIXELS * ratio;
    }
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.fillStyle = INK;
    ctx.fillRect(0, 0, width, height);
    ctx.setTransform(camera.scale, 0, 0, -camera.scale, width / 2 - camera.x * camera.scale + sx, height / 2 + camera.y * camera.scale + sy);
    drawScenery(ctx, scenery, line);
    for (let i = 0; i < 2; i++) drawTrail(ctx, fighters[i], PLAYERS[i], line);
    for (let i = 0; i < 2; i++) drawFighter(ctx, fighters[i], state.players[i], state.frame, PLAYERS[i], line);
    drawEffects(ctx, effects, line);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    if (options.hud) drawHud(ctx, state, fighters, camera, seats, width, height, ratio);
  }

  function fit(): void {
    const box = canvas.getBoundingClientRect();
    ratio = Math.min(window.devicePixelRatio || 1, MAX_RATIO, Math.sqrt(MOST_PIXELS / Math.max(1, box.width * box.height)));
    const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      camera.ready = false;
    }
  }

  function aim(state: State): void {
    follow(camera, state, scenery.stage, canvas.width, canvas.height, options.hud ? hudHeight(canvas.width, canvas.height) : canvas.height * (options.reserve ?? 0));
  }

  fit();
  return {
    show(state) {
      if (state.stage !== stage) {
        stage = state.stage;
        scenery = newScenery(stageById(stage));
      }
      if (state.frame < lastFrame || state.frame > lastFrame + SEEK) {
        for (const fighter of fighters) resetFighter(fighter);
        clearEffects(effects);
        camera.ready = false;
      }
      if (state.frame !== lastFrame || lastState === null) {
        followPlatforms(scenery, state);
        for (let i = 0; i < 2; i++) stepFighter(fighters[i], state.players[i], scenery.stage, effects);
        stepEffects(effects);
        if (options.hear !== undefined) options.hear(effects.cues);
        effects.cues = 0;
        aim(state);
      }
      lastFrame = state.frame;
      lastState = state;
      paint(state);
    },
    resize() {
      fit();
      if (lastState !== null) { aim(lastState); paint(lastState); }
    },
    setSeats(value) { seats = value; },
  };
}
