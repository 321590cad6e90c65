// The peer of the payload bench: base64, gunzip, JSON and one regular expression, as a Lambda function would do it.
const fs = require('fs');
const zlib = require('zlib');
const entry = /^# User@Host: ([^\[]+)\[[^\]]*\] @ (\S*) \[([^\]]*)\].*\n# Query_time: ([\d.]+)\s+Lock_time: ([\d.]+) Rows_sent: (\d+)\s+Rows_examined: (\d+)\nSET timestamp=\d+;\n([\s\S]*);$/m;
const lines = fs.readFileSync(process.argv[2], 'latin1').split('\n').filter(Boolean);
const start = process.hrtime.bigint();
let matched = 0;
for (const line of lines) {
  const payload = JSON.parse(zlib.gunzipSync(Buffer.from(line, 'base64')).toString('utf8'));
  for (const event of payload.logEvents) {
    const found = entry.exec(event.message);
    if (found && Number(found[4]) >= 0) matched += 1;
  }
}
console.log(Number(process.hrtime.bigint() - start) / 1e9, matched);
