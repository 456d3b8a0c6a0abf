/** A QR code as one SVG path. */
import { encode } from "uqr";

export function qrCode(text: string): SVGSVGElement {
  const { size, data } = encode(text, { ecc: "M", border: 2 });
  let d = "";
  data.forEach((row, y) => row.forEach((dark, x) => { if (dark) d += `M${x} ${y}h1v1h-1z`; }));
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `QR code of ${text}`);
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", d);
  svg.appendChild(path);
  return svg;
}
