import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { defineConfig, type Plugin } from "vite";

import { sourcesKey } from "./tools/digest.mjs";

const root = fileURLToPath(new URL(".", import.meta.url)).replace(/\/$/, "");
/** Where `npm run dev` finds a server. */
const server = process.env["FLUMINA_SERVER"] ?? "http://127.0.0.1:8080";

/** Says in the output what it was built from, so that a stale one is noticed without building. */
const sources: Plugin = {
  name: "sources",
  apply: "build",
  transformIndexHtml: (html) => html.replaceAll(" crossorigin", ""),
  closeBundle: () => writeFileSync(join(root, "dist/SOURCES"), `${sourcesKey(root)}\n`),
};

export default defineConfig({
  root,
  cacheDir: "node_modules/.vite",
  base: "./",
  plugins: [sources],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2023",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        // The gateway knows the files by these names; an ETag tells one build from another.
        entryFileNames: "page.js",
        assetFileNames: "page[extname]",
        inlineDynamicImports: true,
      },
    },
  },
  server: {
    host: "127.0.0.1",
    // The gateway listens to its own page only, so the proxy asks in its name.
    proxy: Object.fromEntries(
      ["/apis", "/flumina.pipelines.v1"].map((path) => [
        path,
        { target: server, changeOrigin: true, headers: { origin: server } },
      ]),
    ),
  },
});
