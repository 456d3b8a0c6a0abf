import { defineConfig } from "vite";

// The site is static: `worldline serve` hands out dist/. In development Vite serves it
// and passes the API to an arcade that already runs.
const ARCADE = "http://127.0.0.1:8765";

export default defineConfig({
  base: "./",
  // The client has packages of its own when its tests are installed; one copy is enough here.
  resolve: { dedupe: ["@solana/kit"] },
  build: { target: "es2022", assetsInlineLimit: 0 },
  server: { proxy: { "/api": { target: ARCADE, ws: true } } },
});
