// So many steps of arithmetic that nothing else is needed for.
onmessage = ({ data: { seed, count } }) => {
  let x = seed;
  for (let i = 0; i < count; i += 1) x = x * 0.999 + 0.1;
  postMessage(x);
};
