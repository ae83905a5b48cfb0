// node shoot.mjs PROMETHEUS_URL OUT_DIR SECONDS INSTANCE: the first rows of both boards, of the last SECONDS, as pictures.
// All rows are drawn and judged: it fails where a panel has an error, or has nothing to show although Prometheus has
// its metrics.

import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import UPNG from 'upng-js';

const [prometheus, out, seconds, instance] = process.argv.slice(2);
const dist = new URL('./dist/', import.meta.url).pathname;
const boards = new URL('../', import.meta.url).pathname;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json' };
// README.md shows the pictures some 800 pixels wide: a wider board could not be read there. Twice as many pixels for
// screens that have them.
const WIDTH = 960;
const SCALE = 5 / 3;
// A picture ends above the row of this title.
const PICTURES = [
  { board: 'overview', end: 'Bus and bandwidth', more: {} },
  { board: 'incident', end: 'Publishing and writes', more: { 'var-instance': instance } },
];
const PATIENCE = 90_000; // for a busy machine

const server = http.createServer((request, reply) => {
  const name = path.basename(new URL(request.url, 'http://x').pathname) || 'index.html';
  const folder = name.endsWith('.json') ? boards : name === 'index.html' ? dist : path.join(dist, 'assets');
  const file = path.join(folder, name);
  if (!fs.existsSync(file)) return reply.writeHead(404).end();
  reply.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
  reply.end(fs.readFileSync(file));
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'unstale-preview-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: WIDTH, height: 2000 },
  deviceScaleFactor: SCALE,
  // The page is this project's own, and for root there is no sandbox.
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

const names = await (await fetch(`${prometheus}/api/v1/label/__name__/values`)).json();
const known = new Set(names.data);
const wrong = [];
for (const { board, end, more } of PICTURES) {
  const page = await browser.newPage();
  page.on('pageerror', (error) => wrong.push(`${board}: ${error}`));
  const query = new URLSearchParams({ board, prometheus, from: `now-${seconds}s`, ...more });
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  const done = () => window.faults && Object.values(window.shown).every(({ state }) => ['Done', 'Error'].includes(state));
  await page.waitForFunction(done, null, { timeout: PATIENCE }).catch(() => wrong.push(`${board}: not all panels were ready`));
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: WIDTH, height });
  await page.waitForTimeout(3000); // for what is drawn in frames
  const next = await page.getByText(end, { exact: true }).boundingBox();
  const clip = { x: 0, y: 0, width: WIDTH, height: Math.floor(next.y) - 8 };
  // 256 colours are enough for a board, and a third of the size.
  const picture = UPNG.decode(await page.screenshot({ clip }));
  const small = UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, 256);
  fs.writeFileSync(path.join(out, `${board}.png`), Buffer.from(small));
  wrong.push(...(await page.evaluate(() => window.faults?.() ?? ['nothing was drawn'])));
  for (const [title, { state, values, error, metrics }] of Object.entries(await page.evaluate(() => window.shown))) {
    // No process has the metrics of a feature that none uses: a relay, an audit.
    const empty = !values && metrics.some((name) => known.has(name));
    if (error || state !== 'Done' || empty) wrong.push(`${board}, ${title}: ${error ?? state}, ${values} values`);
  }
}
await browser.close();
server.close();
fs.rmSync(profile, { recursive: true });
if (wrong.length) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
