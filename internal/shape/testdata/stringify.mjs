// Reads JSON texts from standard input and answers each with JSON.stringify(JSON.parse(text)) on standard
// output. Each is four bytes of length, big endian, and UTF-8. A text that is not JSON is answered with
// the length 0xffffffff and nothing else.
import process from 'node:process';

const chunks = [];
let held = 0;

function answer(text) {
  let written;
  try {
    written = JSON.stringify(JSON.parse(text.toString('utf8')));
  } catch {
    process.stdout.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    return;
  }
  const body = Buffer.from(written, 'utf8');
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  process.stdout.write(Buffer.concat([head, body]));
}

process.stdin.on('data', (chunk) => {
  chunks.push(chunk);
  held += chunk.length;
  let all = Buffer.concat(chunks, held);
  while (all.length >= 4) {
    const size = all.readUInt32BE(0);
    if (all.length < 4 + size) break;
    answer(all.subarray(4, 4 + size));
    all = all.subarray(4 + size);
  }
  chunks.length = 0;
  chunks.push(all);
  held = all.length;
});
