// What scripts/test-dashboard runs: the dashboard in Chromium as readers have it. Fails on the first thing that is wrong.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [, , url, token] = process.argv;
// As a browser sends what its user has typed: any name, and the token as the password.
const httpCredentials = token ? { username: 'anyone', password: token } : undefined;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: quiet });

for (const [name, width, colorScheme] of [['light', 1240, 'light'], ['dark', 1240, 'dark'], ['narrow', 360, 'light']]) {
  // The policy is kept in the first look, and set aside in the second to let axe in.
  for (const bypassCSP of [false, true]) {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme, bypassCSP, httpCredentials });
    const page = await context.newPage();
    const wrong = [];
    page.on('console', (m) => ['error', 'warning'].includes(m.type()) && wrong.push(m.text()));
    page.on('pageerror', (e) => wrong.push(e.stack));
    page.on('request', (r) => r.url().startsWith(url) || wrong.push(`asks ${r.url()}`));
    await page.goto(url);
    await page.locator('#view-list tbody tr').first().waitFor();
    const links = page.locator('#view-list a');
    for (let i = 0; i < (await links.count()); i += 1) {
      const view = await links.nth(i).textContent();
      await links.nth(i).press('Enter');
      await page.waitForFunction((v) => document.activeElement?.id === 'view-title' && document.activeElement.textContent === v, view);
    }
    await page.waitForTimeout(2500);
    // Where a refused record can be mended, it is, by keyboard.
    const mend = page.getByRole('button', { name: /^Mend record/ }).first();
    if (await mend.count()) {
      await mend.press('Enter');
      await page.waitForFunction(() => document.activeElement?.id === 'again-text');
      await page.locator('#again-text').fill('{}');
      await page.getByRole('button', { name: 'Push' }).press('Enter');
      await page.locator('.again [role=status]', { hasText: /There is (a|no) fault|It was taken before/ }).waitFor();
    }
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `${name}: ${wider} pixels wider than the window`);
    if (bypassCSP) {
      await page.addScriptTag({ content: axe });
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      const grave = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
      assert.deepEqual(grave.map((v) => `${v.id}: ${v.nodes[0].html}`), [], name);
    }
    assert.deepEqual(wrong, [], name);
    await context.close();
  }
  console.log(`${name}: well`);
}
await browser.close();
