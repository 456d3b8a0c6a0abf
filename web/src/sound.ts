/** Sounds made on the spot: short bursts of an oscillator or of noise, no recordings. */

/** What was heard in a frame, as bits. */
export const Cue = { Hit: 1, Smash: 2, Shield: 4, Jump: 8, Land: 16, Out: 32, Return: 64, Go: 128 } as const;

const STORE = "worldline.sound";
const VOLUME = 0.16;

let context: AudioContext | null = null;
let out: GainNode | null = null;
let noise: AudioBuffer | null = null;

export const soundOn = (): boolean => localStorage.getItem(STORE) !== "off";

export function setSound(on: boolean): void {
  localStorage.setItem(STORE, on ? "on" : "off");
}

/** The output, made at the first sound: browsers want a click or a key before. */
function ready(): AudioContext | null {
  if (!soundOn() || navigator.userActivation?.hasBeenActive === false) return null;
  if (context === null) {
    context = new AudioContext();
    out = context.createGain();
    out.gain.value = VOLUME;
    out.connect(context.destination);
    noise = context.createBuffer(1, context.sampleRate / 2, context.sampleRate);
    const samples = noise.getChannelData(0);
    for (let i = 0; i < samples.length; i++) samples[i] = Math.random() * 2 - 1;
  }
  if (context.state === "suspended") void context.resume();
  return context;
}

function envelope(audio: AudioContext, seconds: number, loudness: number): GainNode {
  const gain = audio.createGain();
  gain.gain.setValueAtTime(loudness, audio.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + seconds);
  gain.connect(out!);
  return gain;
}

function tone(audio: AudioContext, type: OscillatorType, from: number, to: number, seconds: number, loudness: number): void {
  const oscillator = audio.createOscillator();
  oscillator.type = type;
  oscillator.frequency.setValueAtTime(from, audio.currentTime);
  oscillator.frequency.exponentialRampToValueAtTime(to, audio.currentTime + seconds);
  oscillator.connect(envelope(audio, seconds, loudness));
  oscillator.start();
  oscillator.stop(audio.currentTime + seconds);
}

function hiss(audio: AudioContext, cutoff: number, seconds: number, loudness: number): void {
  const source = audio.createBufferSource();
  source.buffer = noise;
  const filter = audio.createBiquadFilter();
  filter.type = "lowpass";
  filter.frequency.setValueAtTime(cutoff, audio.currentTime);
  filter.frequency.exponentialRampToValueAtTime(cutoff / 8, audio.currentTime + seconds);
  source.connect(filter).connect(envelope(audio, seconds, loudness));
  source.start();
  source.stop(audio.currentTime + seconds);
}

/** Plays the bits of one frame. */
export function play(cues: number): void {
  if (cues === 0) return;
  const audio = ready();
  if (audio === null) return;
  if (cues & Cue.Out) { tone(audio, "sawtooth", 420, 40, 0.9, 0.9); hiss(audio, 5000, 0.8, 1); }
  if (cues & Cue.Smash) { hiss(audio, 4200, 0.22, 1); tone(audio, "square", 190, 45, 0.2, 0.8); }
  else if (cues & Cue.Hit) { hiss(audio, 2600, 0.09, 0.8); tone(audio, "square", 260, 110, 0.07, 0.4); }
  if (cues & Cue.Shield) tone(audio, "triangle", 880, 520, 0.12, 0.4);
  if (cues & Cue.Jump) tone(audio, "triangle", 240, 520, 0.08, 0.22);
  if (cues & Cue.Land) hiss(audio, 700, 0.06, 0.3);
  if (cues & Cue.Return) tone(audio, "triangle", 300, 900, 0.4, 0.35);
  if (cues & Cue.Go) tone(audio, "square", 660, 660, 0.25, 0.35);
}
