const LONGEST_COMPARED = 800; // words: beyond it two responses are shown unmarked

/** Marks in two texts the words that the other has not (longest common subsequence); [left, right] as nodes. */
function markDifferences(left, right) {
  const [a, b] = [left, right].map((text) => text.match(/\s+|[^\s]+/g) ?? []);
  if (left === right || Math.max(a.length, b.length) > 2 * LONGEST_COMPARED) return [[left], [right]];
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      common[at] = a[i] === b[j] ? common[at + width + 1] + 1 : Math.max(common[at + width], common[at + 1]);
    }
  }
  const kept = [new Set(), new Set()];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const at = i * width + j;
    if (a[i] === b[j]) kept[0].add(i++), kept[1].add(j++);
    else if (common[at + width] >= common[at + 1]) i++;
    else j++;
  }
  return [marked(a, kept[0]), marked(b, kept[1])];
}

/** Words as text, runs of those that are not kept inside a <mark>. */
function marked(words, kept) {
  const nodes = [];
  let run = "";
  const close = () => {
    if (run.trim()) nodes.push(element("mark", {}, run));
    else if (run) nodes.push(run);
    run = "";
  };
  words.forEach((word, place) => {
    const blank = !word.trim();
    if (!kept.has(place) || (blank && run && place + 1 < words.length && !kept.has(place + 1))) run += word;
    else {
      close();
      nodes.push(word);
    }
  });
  close();
  return nodes;
}
