/* All parts of the engine as one, for tests that look inside. From native/engine/, or where mutants has put
 * its own. */
#include "engine.c"
#include "engine_sources.c"
#include "engine_executor.c"
#include "engine_reactor.c"
#include "engine_simulation.c"
