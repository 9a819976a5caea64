/* What a result of the search is worth. An entry of the index that is just what was looked for has
   100 in Sphinx, and less the longer it is. Titles come next, and words of the text at last. */
var Scorer = {
  objNameMatch: 50,
  objPartialMatch: 30,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 60,
  partialTitle: 10,
  term: 5,
  partialTerm: 2,
};
