#ifndef TRALE_STRESS_H
#define TRALE_STRESS_H

/* Everything at once, for a while, from many threads; then the accounts are checked. */
void stress(void);

#endif
