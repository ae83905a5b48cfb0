// node shoot.mjs PROMETHEUS_URL OUT_DIR SECONDS INSTANCE: both boards of the last SECONDS as pictures.
// Fails where a panel has an error or nothing to show.

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
const WIDTH = 1500;
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
  // Nothing here is anybody else's page, and as root there is no sandbox.
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

const wrong = [];
for (const [board, more] of [['overview', {}], ['incident', { 'var-instance': instance }]]) {
  const page = await browser.newPage();
  page.on('pageerror', (error) => wrong.push(`${board}: ${error}`));
  const query = new URLSearchParams({ board, prometheus, from: `now-${seconds}s`, ...more });
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  const done = () => window.faults && Object.values(window.shown).every(({ state }) => ['Done', 'Error'].includes(state));
  await page.waitForFunction(done, null, { timeout: PATIENCE }).catch(() => wrong.push(`${board}: not all panels were ready`));
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: WIDTH, height });
  await page.waitForTimeout(3000); // for what is drawn in frames
  // 256 colours are enough for a board, and a third of the size.
  const picture = UPNG.decode(await page.screenshot());
  const small = UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, 256);
  fs.writeFileSync(path.join(out, `${board}.png`), Buffer.from(small));
  wrong.push(...(await page.evaluate(() => window.faults?.() ?? ['nothing was drawn'])));
  for (const [title, { state, values, error }] of Object.entries(await page.evaluate(() => window.shown))) {
    if (error || state !== 'Done' || !values) wrong.push(`${board}, ${title}: ${error ?? state}, ${values} values`);
  }
}
await browser.close();
server.close();
fs.rmSync(profile, { recursive: true });
if (wrong.length) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
