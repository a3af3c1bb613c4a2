// Words of a head's sealed page: of the codes of one token, of the scales and minima of one token on average, and in all.
const KEY_ROW: u32 = (KEY + 15u) / 16u;
const KEY_PAGE: u32 = PAGE * (KEY_ROW + (KEY + 31u) / 32u);
const VALUE_ROW: u32 = (VALUE + 15u) / 16u;
const VALUE_BLOCKS: u32 = (VALUE + 31u) / 32u;
const VALUE_PAGE: u32 = PAGE * (VALUE_ROW + VALUE_BLOCKS);
// Pages of all slots and heads.
const SEALED_PAGES: u32 = SEALED_SLOTS * KV_HEADS;
