// SPDX-License-Identifier: GPL-3.0-or-later
// Buffers outside V8's heap, zlib in the thread pool, a part kept; then rest.
const zlib = require('zlib');
const kept = [];
let left = 300;
for (let i = 0; i < 300; i++) {
	const raw = Buffer.allocUnsafeSlow(1000 + (i * 7919) % 90000).fill('abc' + i);
	zlib.deflate(raw, (error, packed) => {
		if (error)
			throw error;
		if (i % 4 === 0)
			kept.push(packed, raw);
		if (--left === 0)
			setTimeout(() => console.log('idle'), 200);
	});
}
setInterval(() => {}, 1 << 30);
