/** A stage as a small line drawing. */
import { stageById } from "../melee/stages";

const SPAN = 100;

export function stageIcon(id: number): SVGSVGElement {
  const stage = stageById(id);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `${-SPAN} -70 ${2 * SPAN} 110`);
  svg.setAttribute("class", "stage-icon");
  svg.setAttribute("aria-hidden", "true");
  let top = `M${-stage.edge} ${-stage.edgeY}`;
  top += stage.edgeY < -1 ? `L${-stage.edge * 0.7} 0H${stage.edge * 0.7}L${stage.edge} ${-stage.edgeY}` : `H${stage.edge}`;
  for (const platform of stage.platforms) top += `M${platform.left} ${-platform.y}H${platform.right}`;
  let under = `M${stage.edge} ${-stage.edgeY}`;
  for (let i = 0; i < stage.under.length; i += 2) under += `L${stage.under[i].toFixed(1)} ${(-Math.max(stage.under[i + 1], -36)).toFixed(1)}`;
  under += `L${-stage.edge} ${-stage.edgeY}`;
  for (const [d, name] of [[under, "under"], [top, "top"]] as const) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", d);
    path.setAttribute("class", name);
    svg.appendChild(path);
  }
  return svg;
}
