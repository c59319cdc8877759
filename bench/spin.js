// So many steps of arithmetic that nothing else is needed for. A chain waits for itself, eight of them for
// the core's units: two threads of one core would not do them in half the time.
onmessage = ({ data: { seed, count } }) => {
  let [a, b, c, d, e, f, g, h] = [1, 2, 3, 4, 5, 6, 7, 8].map((x) => x * seed);
  for (let i = 0; i < count; i += 1) {
    a = a * 0.999 + 0.1;
    b = b * 0.999 + 0.1;
    c = c * 0.999 + 0.1;
    d = d * 0.999 + 0.1;
    e = e * 0.999 + 0.1;
    f = f * 0.999 + 0.1;
    g = g * 0.999 + 0.1;
    h = h * 0.999 + 0.1;
  }
  postMessage(a + b + c + d + e + f + g + h);
};
