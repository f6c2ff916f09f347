// Runs the programs of language.txt in Node and writes what they return into
// the file, after "=>". Each program has a realm of its own, so that it sees
// ECMAScript alone and harms no other. Usage: node vm/testdata/record-language.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';

process.env.TZ = 'UTC';
process.on('unhandledRejection', () => {}); // promises that a program leaves rejected

const file = new URL('language.txt', import.meta.url);
const [head, ...entries] = readFileSync(file, 'utf8').split(/^=== /m);
const helpers = head.split('\n').filter((line) => !line.startsWith('#')).join('\n');

const failures = [];
let text = head.replace(/made with Node v[\d.]+/, `made with Node ${process.version}`);
for (const entry of entries) {
  const lines = entry.trimEnd().split('\n');
  const [name, ...program] = lines.filter((line) => !/^(=>|quickjs =>|because) /.test(line));
  const differs = lines.filter((line) => /^(quickjs =>|because) /.test(line));
  const node = await record(program.join('\n')).catch((e) => { failures.push(`${name}: ${e}`) });
  if (differs.length > 0 && differs[0] === `quickjs => ${node}`) failures.push(`${name}: nothing differs any more: remove its quickjs and because lines`);
  text += `=== ${[name, ...program, `=> ${node}`, ...differs].join('\n')}\n${entry.endsWith('\n\n') ? '\n' : ''}`;
}
if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exit(1);
}
writeFileSync(file, text);

async function record(program) {
  const value = await runInNewContext(`${helpers}\n(async () => {\n${program}\n})().then((v) => JSON.stringify(v))`);
  if (value === undefined) throw new Error('returns nothing');
  return value;
}
