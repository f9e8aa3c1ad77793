// Puts what the page asks for by name beside the bundle: itself, Grafana's icons and its font.
import { cpSync } from "node:fs";

const FONTS = { 400: "Inter-Regular", 500: "Inter-Medium" };

cpSync("index.html", "out/index.html");
cpSync("node_modules/@grafana/ui/dist/public/img/icons", "out/public/build/img/icons", { recursive: true });
for (const [weight, name] of Object.entries(FONTS)) {
  cpSync(
    `node_modules/@fontsource/inter/files/inter-latin-${weight}-normal.woff2`,
    `out/public/fonts/inter/${name}.woff2`,
  );
}
